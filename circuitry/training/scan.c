/* Selective scan of Mamba-1 and, below, WKV of RWKV-4, forward and backward, for training on a CPU.
 *
 * Transformers' fallback keeps every discretised tensor and its backward is quadratic in the length; training the bundled
 * models with it would take days. Here the state lives in registers and the backward recomputes it per channel, in a buffer
 * of length x state that fits the first-level cache. Layouts (row major, float32):
 *   u, delta, y: [batch, length, inner]    A: [inner, state]    B, C: [batch, length, state]
 */
#include <math.h>
#include <stdlib.h>

typedef const float *restrict in;
typedef float *restrict out;

void scan_forward(in u, in delta, in A, in B, in C, out y, int batch, int length, int inner, int state) {
#pragma omp parallel for collapse(2)
  for (int b = 0; b < batch; b++)
    for (int e = 0; e < inner; e++) {
      float h[state];
      const float *Ae = A + (long)e * state;
      for (int n = 0; n < state; n++) h[n] = 0;
      for (int t = 0; t < length; t++) {
        long bt = (long)b * length + t;
        float d = delta[bt * inner + e], du = d * u[bt * inner + e], sum = 0;
        const float *Bt = B + bt * state, *Ct = C + bt * state;
#pragma omp simd reduction(+ : sum)
        for (int n = 0; n < state; n++) {
          h[n] = expf(d * Ae[n]) * h[n] + du * Bt[n];
          sum += h[n] * Ct[n];
        }
        y[bt * inner + e] = sum;
      }
    }
}

/* Gradients of the above for dy = d loss / d y. dA is per example: [batch, inner, state]. dB and dC must come zeroed. */
void scan_backward(in u, in delta, in A, in B, in C, in dy, out du, out ddelta, out dA, out dB, out dC, int batch,
                   int length, int inner, int state) {
#pragma omp parallel for
  for (int b = 0; b < batch; b++) {
    float *a = malloc(sizeof(float) * 2 * length * state), *h = a + (long)length * state;
    for (int e = 0; e < inner; e++) {
      const float *Ae = A + (long)e * state;
      float *dAe = dA + ((long)b * inner + e) * state, lambda[state];
      for (int t = 0; t < length; t++) {
        long bt = (long)b * length + t;
        float d = delta[bt * inner + e], dut = d * u[bt * inner + e];
        const float *Bt = B + bt * state;
        float *at = a + (long)t * state, *ht = h + (long)t * state;
        if (t == 0)
          for (int n = 0; n < state; n++) at[n] = 0, ht[n] = dut * Bt[n];
        else
#pragma omp simd
          for (int n = 0; n < state; n++) {
            at[n] = expf(d * Ae[n]);
            ht[n] = at[n] * ht[n - state] + dut * Bt[n];
          }
      }
      for (int n = 0; n < state; n++) lambda[n] = 0, dAe[n] = 0;
      for (int t = length - 1; t >= 0; t--) {
        long bt = (long)b * length + t, i = bt * inner + e;
        float d = delta[i], ut = u[i], g = dy[i], l = 0, q = 0;
        const float *Bt = B + bt * state, *Ct = C + bt * state, *at = a + (long)t * state, *ht = h + (long)t * state;
        float *dBt = dB + bt * state, *dCt = dC + bt * state;
#pragma omp simd reduction(+ : l, q)
        for (int n = 0; n < state; n++) {
          float lam = lambda[n] + g * Ct[n], through = lam * at[n];
          dCt[n] += g * ht[n];
          dBt[n] += d * ut * lam;
          l += lam * Bt[n];
          lambda[n] = through;
          float qn = t ? through * ht[n - state] : 0;
          q += qn * Ae[n];
          dAe[n] += qn * d;
        }
        du[i] = l * d;
        ddelta[i] = q + l * ut;
      }
    }
    free(a);
  }
}

/* WKV of RWKV-4, forward and backward. Layouts: k, v, y: [batch, length, channels]; w (the decay, negative) and u: [channels].
 *
 * With a, b the sums of exp(k) v and of exp(k), decayed by exp(w) a token: y_t = (a + exp(u + k_t) v_t) / (b + exp(u + k_t)).
 * Both are kept divided by exp(m), m the largest exponent so far. A thread takes CHUNK channels of one example.
 */
#define CHUNK 32
#define EACH for (int c = 0; c < width; c++)

typedef struct { float a[CHUNK], b[CHUNK], m[CHUNK]; } Sums;

static inline float wkv_read(float a, float b, float m, float k, float v, float *weight, float *below) {
  float top = fmaxf(m, k), old = expf(m - top), new = expf(k - top), sum = old * b + new;
  *weight = new / sum;
  *below = top + logf(sum);
  return (old * a + new * v) / sum;
}

static inline void wkv_write(float *a, float *b, float *m, float w, float k, float v) {
  float top = fmaxf(*m + w, k), old = expf(*m + w - top), new = expf(k - top);
  *a = old * *a + new * v;
  *b = old * *b + new;
  *m = top;
}

void wkv_forward(in w, in u, in k, in v, out y, int batch, int length, int channels) {
#pragma omp parallel for collapse(2)
  for (int n = 0; n < batch; n++)
    for (int first = 0; first < channels; first += CHUNK) {
      int width = channels - first < CHUNK ? channels - first : CHUNK;
      Sums s;
      EACH s.a[c] = s.b[c] = 0, s.m[c] = -1e38f;
      for (int t = 0; t < length; t++) {
        long at = ((long)n * length + t) * channels + first;
#pragma omp simd
        EACH {
          float weight, below;
          y[at + c] = wkv_read(s.a[c], s.b[c], s.m[c], u[first + c] + k[at + c], v[at + c], &weight, &below);
          wkv_write(&s.a[c], &s.b[c], &s.m[c], w[first + c], k[at + c], v[at + c]);
        }
      }
    }
}

/* Gradients of the above for dy = d loss / d y. dw and du are per example: [batch, channels].
 *
 * The sums before every token are kept; then, backwards, la and lb are the gradients of a and b after the token, both divided
 * by exp(-p). No exponent is positive, since p is at most any exponent that has entered a later sum.
 */
void wkv_backward(in w, in u, in k, in v, in dy, out dw, out du, out dk, out dv, int batch, int length, int channels) {
#pragma omp parallel for collapse(2)
  for (int n = 0; n < batch; n++)
    for (int first = 0; first < channels; first += CHUNK) {
      int width = channels - first < CHUNK ? channels - first : CHUNK;
      Sums *s = malloc(sizeof(Sums) * (length + 1));
      float la[CHUNK], lb[CHUNK], p[CHUNK], *dwn = dw + (long)n * channels + first, *dun = du + (long)n * channels + first;
      EACH s[0].a[c] = s[0].b[c] = 0, s[0].m[c] = -1e38f, la[c] = lb[c] = dwn[c] = dun[c] = 0, p[c] = 1e38f;
      for (int t = 0; t < length; t++) {
        long at = ((long)n * length + t) * channels + first;
        s[t + 1] = s[t];
#pragma omp simd
        EACH wkv_write(&s[t + 1].a[c], &s[t + 1].b[c], &s[t + 1].m[c], w[first + c], k[at + c], v[at + c]);
      }
      for (int t = length - 1; t >= 0; t--) {
        long at = ((long)n * length + t) * channels + first;
#pragma omp simd
        EACH {
          float g = dy[at + c], vt = v[at + c], weight, below, through = expf(s[t].m[c] + w[first + c] - p[c]);
          float y = wkv_read(s[t].a[c], s[t].b[c], s[t].m[c], u[first + c] + k[at + c], vt, &weight, &below);
          float own = g * weight * (vt - y), later = expf(k[at + c] - p[c]);
          dv[at + c] = g * weight + later * la[c];
          dk[at + c] = own + later * (vt * la[c] + lb[c]);
          dun[c] += own;
          dwn[c] += through * (s[t].a[c] * la[c] + s[t].b[c] * lb[c]);
          float next = fminf(below, p[c] - w[first + c]), here = g * expf(next - below), kept = expf(next - p[c] + w[first + c]);
          la[c] = here + kept * la[c];
          lb[c] = kept * lb[c] - here * y;
          p[c] = next;
        }
      }
      free(s);
    }
}

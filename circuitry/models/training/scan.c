/* Selective scan of Mamba-1, forward and backward, for training on a CPU.
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

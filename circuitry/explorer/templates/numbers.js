// Numbers as the reports write them: a true minus, and the digits of circuitry's own tables.
const finite = (value) => typeof value === "number" && Number.isFinite(value);
const minus = (text) => text.replace(/-/g, "−");

function number(value) {
  if (!finite(value)) return "";
  const size = Math.abs(value), sign = value < 0 ? "" : "+";
  if (size < 0.0005) return value ? minus(sign + value.toExponential(0).replace(/e([+-])(\d)$/, "e$10$2")) : "0";
  return minus(sign + value.toFixed(size >= 100 ? 0 : size >= 0.01 ? 2 : 3));
}
function percent(share) {
  if (!finite(share)) return "";
  const rounded = Math.round(100 * share);
  return `${rounded < 0 ? "−" : ""}${Math.abs(rounded)} %`;
}
function small(q) {
  if (!finite(q)) return "";
  return q < 0.001 ? "< 0.001" : q.toFixed(3).replace(/\.?0+$/, "");
}
const plainNumber = (value, digits = 2) => (finite(value) ? minus(value.toFixed(digits)) : "");
const range = (low, high) => (finite(low) && finite(high) ? `${number(low)} to ${number(high)}` : "");

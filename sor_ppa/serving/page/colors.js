// The colors of ranks: the scale of sor_ppa/visualization/colors.py in CIE Lab, warm and light for the first.

const SCALE = [[86, 8, 78], [73, 38, 58], [61, 62, 24], [50, 60, -18], [42, 44, -52], [36, 18, -52]];
const UNRANKED = { fill: "rgb(176 180 184)", ink: "#101010" };

/** Return the color of a rank (null: not ranked) and that of text on it. */
export function rankColor(rank) {
  if (rank === null) return UNRANKED;
  const position = (1 - Math.exp(-(rank - 1) / 3.2)) * (SCALE.length - 1);
  const first = Math.min(Math.floor(position), SCALE.length - 2);
  const mixed = SCALE[first].map((value, axis) => value + (position - first) * (SCALE[first + 1][axis] - value));
  return { fill: `lab(${mixed.map((value) => value.toFixed(1)).join(" ")})`, ink: mixed[0] > 49.6 ? "#000" : "#fff" };
}

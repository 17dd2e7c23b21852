// Polygons in pixels of the photo: [[x0, y0, x1, y1, ...], ...], holes by the even-odd rule.

const paths = new WeakMap();

/** Return the "d" of an SVG path. The stairs of pixels become slopes, less than a pixel beside them. */
export function pathData(polygons) {
  if (!paths.has(polygons)) {
    const smooth = polygons.map((ring) => (ring.length > 12 ? simplify(cutCorners(ring), 0.6) : ring));
    paths.set(polygons, smooth.map((ring) => `M${ring.join(" ")}Z`).join(""));
  }
  return paths.get(polygons);
}

/** Return the points [[x, y], ...] of a ring. */
export function points(ring) {
  return Array.from({ length: ring.length / 2 }, (_, index) => [ring[2 * index], ring[2 * index + 1]]);
}

/** Return a ring with fewer points that is nowhere farther than the tolerance from it (Douglas-Peucker). */
export function simplify(ring, tolerance) {
  const all = points(ring);
  const far = all.reduce((best, p, i) => (distance(p, all[0]) > distance(all[best], all[0]) ? i : best), 0);
  const halves = [all.slice(0, far + 1), [...all.slice(far), all[0]]];
  return halves.flatMap((half) => reduced(half, tolerance).slice(0, -1)).flat();
}

/** Return the number of pixels inside a ring. */
export function ringArea(ring) {
  const all = points(ring);
  const twice = all.reduce((sum, [x, y], i) => {
    const [nextX, nextY] = all[(i + 1) % all.length];
    return sum + x * nextY - nextX * y;
  }, 0);
  return Math.abs(twice) / 2;
}

/**
 * Return where the badge of each object stands, [x, y]: deep inside the object, and apart from the badges of
 * the objects before it.
 */
export function badgePlaces(objects, radius) {
  const taken = [];
  for (const { polygons } of objects) {
    const best = innerPoints(polygons)
      .map(({ point, depth }) => {
        const overlap = taken.reduce((sum, other) => sum + Math.max(2.2 * radius - distance(point, other), 0), 0);
        return { point, quality: Math.min(depth, 2 * radius) + 0.15 * depth - 3 * overlap };
      })
      .reduce((a, b) => (b.quality > a.quality ? b : a), { point: [0, 0], quality: -Infinity });
    taken.push(best.point);
  }
  return taken;
}

const inner = new WeakMap();

/** Return points on a grid inside polygons with their distances to the outline. */
function innerPoints(polygons) {
  if (inner.has(polygons)) return inner.get(polygons);
  const rings = polygons.map((ring) => simplify(ring, 1.5)).filter((ring) => ring.length >= 6);
  const [left, top, right, bottom] = boxOf(polygons);
  const steps = 18;
  const found = [];
  for (let row = 0; row < steps; row += 1) {
    for (let column = 0; column < steps; column += 1) {
      const point = [left + ((column + 0.5) * (right - left)) / steps, top + ((row + 0.5) * (bottom - top)) / steps];
      const depth = insideDistance(rings, point);
      if (depth > 0) found.push({ point, depth });
    }
  }
  if (!found.length) found.push({ point: [(left + right) / 2, (top + bottom) / 2], depth: 0 });
  inner.set(polygons, found);
  return found;
}

function boxOf(polygons) {
  const all = polygons.flatMap(points);
  const [xs, ys] = [all.map(([x]) => x), all.map(([, y]) => y)];
  const least = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);
  const most = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);
  return [least(xs), least(ys), most(xs), most(ys)];
}

function insideDistance(rings, point) {
  let inside = false;
  let nearest = Infinity;
  for (const ring of rings) {
    for (let i = 0, j = ring.length - 2; i < ring.length; j = i, i += 2) {
      const [from, to] = [[ring[j], ring[j + 1]], [ring[i], ring[i + 1]]];
      nearest = Math.min(nearest, distanceToSegment(point, from, to));
      const crosses = from[1] > point[1] !== to[1] > point[1];
      if (crosses && point[0] < from[0] + ((point[1] - from[1]) / (to[1] - from[1])) * (to[0] - from[0])) {
        inside = !inside;
      }
    }
  }
  return inside ? nearest : -nearest;
}

function cutCorners(ring) {
  const all = points(ring);
  return all.flatMap((from, i) => {
    const to = all[(i + 1) % all.length];
    const part = Math.min(0.5 / (distance(from, to) || 1), 0.5);
    const along = (share) => [from[0] + share * (to[0] - from[0]), from[1] + share * (to[1] - from[1])];
    return part === 0.5 ? along(0.5) : [...along(part), ...along(1 - part)];
  });
}

function reduced(line, tolerance) {
  const last = line.length - 1;
  let [index, farthest] = [0, tolerance];
  for (let i = 1; i < last; i += 1) {
    const away = distanceToSegment(line[i], line[0], line[last]);
    if (away > farthest) [index, farthest] = [i, away];
  }
  if (!index) return [line[0], line[last]];
  return [...reduced(line.slice(0, index + 1), tolerance).slice(0, -1), ...reduced(line.slice(index), tolerance)];
}

function distance([x, y], [otherX, otherY]) {
  return Math.hypot(x - otherX, y - otherY);
}

function distanceToSegment(point, from, to) {
  const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
  const along = ((point[0] - from[0]) * dx + (point[1] - from[1]) * dy) / (dx * dx + dy * dy || 1);
  const share = Math.min(Math.max(along, 0), 1);
  return distance(point, [from[0] + share * dx, from[1] + share * dy]);
}

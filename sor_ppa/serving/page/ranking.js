// The order of the objects of a photo. Objects are never changed in place: every function returns new ones.

/** Return the ids of the ranked objects, most salient first, in groups that share a rank. */
export function rankGroups(objects) {
  const groups = new Map();
  for (const { id, rank } of objects) if (rank !== null) groups.set(rank, [...(groups.get(rank) ?? []), id]);
  return [...groups.keys()].sort((a, b) => a - b).map((rank) => groups.get(rank));
}

/** Return the objects in the order of the groups with the ranks 1, 2, ...; other objects get no rank. */
function withGroups(objects, groups) {
  const byId = new Map(objects.map((object) => [object.id, object]));
  const ranked = groups
    .filter((ids) => ids.length)
    .flatMap((ids, index) => ids.map((id) => ({ ...byId.get(id), rank: index + 1 })));
  const ids = new Set(groups.flat());
  return [...ranked, ...objects.filter(({ id }) => !ids.has(id)).map((object) => ({ ...object, rank: null }))];
}

/** Return the objects with new properties of one of them. */
export function withObject(objects, id, properties) {
  return objects.map((object) => (object.id === id ? { ...object, ...properties } : object));
}

/** Return the objects with one more, ranked last. */
export function withNew(objects, object) {
  return withGroups([...objects, object], [...rankGroups(objects), [object.id]]);
}

/** Return the objects without one. */
export function withoutObject(objects, id) {
  return withGroups(
    objects.filter((object) => object.id !== id),
    groupsWithout(objects, id),
  );
}

/** Give an object a rank of its own; those that follow move down. */
export function setRank(objects, id, rank) {
  return placeAt(objects, id, rank - 1);
}

/** Move an object up (-1) or down (1) by one place; a tied object leaves its tie. */
export function step(objects, id, direction) {
  const groups = rankGroups(objects);
  const group = groups.findIndex((ids) => ids.includes(id));
  if (group < 0) return direction < 0 ? placeAt(objects, id, groups.length) : objects;
  const tied = groups[group].length > 1;
  if (!tied && !groups[group + direction]) return objects;
  return placeAt(objects, id, direction > 0 || tied ? group + Math.max(direction, 0) : group - 1);
}

/** Move an object before another one (null: to the end); between two tied objects it joins their tie. */
export function moveBefore(objects, id, next) {
  const groups = groupsWithout(objects, id);
  const group = groups.findIndex((ids) => ids.includes(next));
  if (group < 0) return placeAt(objects, id, groups.length);
  const index = groups[group].indexOf(next);
  if (index === 0) return placeAt(objects, id, group);
  groups[group].splice(index, 0, id);
  return withGroups(accepted(objects, id), groups);
}

/** Join an object with the group above it, or split it and the tied ones below it from those above. */
export function toggleTie(objects, id) {
  const groups = rankGroups(objects);
  const group = groups.findIndex((ids) => ids.includes(id));
  if (group < 0) return objects;
  const index = groups[group].indexOf(id);
  if (index > 0) groups.splice(group, 1, groups[group].slice(0, index), groups[group].slice(index));
  else if (group > 0) groups.splice(group - 1, 2, [...groups[group - 1], ...groups[group]]);
  return withGroups(accepted(objects, id), groups);
}

/** Accept an object; one without a rank becomes the last of the order. */
export function accept(objects, id) {
  const ranked = objects.some((object) => object.id === id && object.rank !== null);
  return ranked ? accepted(objects, id) : placeAt(objects, id, Infinity);
}

/** Take an object out of the order, because it is "rejected" (no object) or not "salient". */
export function takeOut(objects, id, reason) {
  const properties = reason === "rejected" ? { state: "rejected" } : { state: "accepted", salient: false };
  return withGroups(withObject(objects, id, properties), groupsWithout(objects, id));
}

function placeAt(objects, id, index) {
  const groups = groupsWithout(objects, id);
  groups.splice(Math.min(index, groups.length), 0, [id]);
  return withGroups(accepted(objects, id), groups);
}

function groupsWithout(objects, id) {
  return rankGroups(objects)
    .map((ids) => ids.filter((other) => other !== id))
    .filter((ids) => ids.length);
}

function accepted(objects, id) {
  return withObject(objects, id, { state: "accepted", salient: true });
}

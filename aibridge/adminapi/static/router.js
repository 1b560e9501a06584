// Where we are: the part of the address behind `#`. It holds the view and its filters, so that a link shows the same.

/** The view's name and further parts, and the parameters. */
export function here() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { parts: path.split("/").filter(Boolean).map(decoded), parameters: new URLSearchParams(query ?? "") };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // typed by hand: a percent sign of its own
  }
}

/** A link to a view. `parameters` is an object; what is empty is left out. */
export function link(parts, parameters) {
  const kept = Object.entries(parameters ?? {}).filter(
    ([, value]) => value !== null && value !== undefined && value !== "",
  );
  const query = new URLSearchParams(kept).toString();
  return `#/${[parts].flat().map(encodeURIComponent).join("/")}${query ? `?${query}` : ""}`;
}

/** The parameters of here with changes, as an object for `link`. A page of a list does not outlive a change. */
export function changed(parameters, changes) {
  const { cursor, ...rest } = Object.fromEntries(parameters);
  return { ...rest, ...changes };
}

export function go(target) {
  location.hash = target;
}

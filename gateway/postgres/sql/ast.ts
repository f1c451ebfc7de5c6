/** Reading PostgreSQL's parse tree as libpg-query spells it: a node is `{Kind: {field: …}}`, empty fields are left out. */

export type Body = Readonly<Record<string, unknown>>;
export interface Node {
  readonly kind: string;
  readonly body: Body;
}

const empty: Body = {};

export function isBody(value: unknown): value is Body {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A wrapped node, or undefined for an absent field and the empty node of a list. */
export function node(value: unknown): Node | undefined {
  if (!isBody(value)) return undefined;
  for (const kind in value) {
    const body = value[kind];
    return { kind, body: isBody(body) ? body : empty };
  }
  return undefined;
}

/** A field whose type is fixed, so that it comes without its kind. */
export function bodyOf(value: unknown): Body | undefined {
  return isBody(value) ? value : undefined;
}

export function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

export function nodes(value: unknown): Node[] {
  const found: Node[] = [];
  for (const item of list(value)) {
    const one = node(item);
    if (one) found.push(one);
  }
  return found;
}

export function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** The strings of a list of String nodes: names of functions, operators, columns. */
export function strings(value: unknown): string[] {
  return nodes(value).map(({ kind, body }) => (kind === "String" ? text(body.sval) : `<${kind}>`));
}

export function stringOf(value: unknown): string | undefined {
  const one = node(value);
  return one?.kind === "String" ? text(one.body.sval) : undefined;
}

/** Text of a constant, as SET and options have it; undefined for what is no constant. */
export function constantText(value: unknown): string | undefined {
  const one = node(value);
  if (one === undefined) return undefined;
  const { kind, body } = one;
  if (kind === "String") return text(body.sval);
  if (kind === "Integer") return String(body.ival ?? 0);
  if (kind === "Float") return text(body.fval);
  if (kind === "Boolean") return String(body.boolval ?? false);
  if (kind === "TypeCast") return constantText(body.arg);
  if (kind !== "A_Const") return undefined;
  if (isBody(body.sval)) return text(body.sval.sval);
  if (isBody(body.ival)) return String(body.ival.ival ?? 0);
  if (isBody(body.fval)) return text(body.fval.fval);
  if (isBody(body.boolval)) return String(body.boolval.boolval ?? false);
  return undefined;
}

/** Calls `visit` for every object below, with the name of the field or kind it is under; false stops the descent there. */
export function visit(value: unknown, see: (key: string, body: Body) => boolean, key = ""): void {
  if (Array.isArray(value)) {
    for (const item of value) visit(item, see, key);
    return;
  }
  if (!isBody(value)) return;
  if (!see(key, value)) return;
  for (const name in value) visit(value[name], see, name);
}

/** Whether a node of one of the kinds is anywhere below. */
export function contains(value: unknown, kinds: ReadonlySet<string>): boolean {
  let found = false;
  visit(value, (key) => {
    if (kinds.has(key)) found = true;
    return !found;
  });
  return found;
}

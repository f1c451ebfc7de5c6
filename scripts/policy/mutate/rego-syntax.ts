/** What of a Rego source can be taken away: its rules, their conditions and the elements of their sets, with their extents. */
import { z } from "zod";
import { resolveOpa } from "../toolchain.ts";

/** Offsets into the source, the end excluded. */
export interface Extent {
  readonly start: number;
  readonly end: number;
}

export interface RegoRule {
  /** "deny", "_permitted", "else of _verdict" … and where it contributes a reason, its id as written. */
  readonly name: string;
  readonly extent: Extent;
  readonly isDefault: boolean;
  /** Undefined where the rule holds always. */
  readonly body: Extent | undefined;
  readonly conditions: readonly RegoCondition[];
  /** Elements of set literals, and of object literals of plain values. */
  readonly elements: readonly Extent[];
}

export interface RegoCondition extends Extent {
  readonly negated: boolean;
  /** `every` cannot be negated. */
  readonly isEvery: boolean;
}

interface Node {
  readonly [key: string]: unknown;
}

const located = z.looseObject({ location: z.looseObject({ row: z.number(), col: z.number(), text: z.string() }) });

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function children(node: Node): Node[] {
  return Object.entries(node)
    .filter(([key]) => key !== "location" && key !== "annotations")
    .flatMap(([, value]) => flat(value));
}

function flat(value: unknown): Node[] {
  if (Array.isArray(value)) return value.flatMap(flat);
  return isNode(value) ? [value] : [];
}

/** @param source as OPA's parser sees it. @throws Error with OPA's message where it does not parse. */
export function readRules(path: string, source: string): RegoRule[] {
  const command = [resolveOpa(), "parse", "--format", "json", "--json-include", "locations", path];
  const run = Bun.spawnSync(command, { stdout: "pipe", stderr: "pipe" });
  if (run.exitCode !== 0) throw new Error(run.stderr.toString() || run.stdout.toString());
  const lineStarts = [0];
  for (let at = source.indexOf("\n"); at >= 0; at = source.indexOf("\n", at + 1)) lineStarts.push(at + 1);
  const extentOf = (node: Node): Extent & { text: string } => {
    const { location } = located.parse(node);
    const start = (lineStarts[location.row - 1] ?? 0) + location.col - 1;
    const text = Buffer.from(location.text, "base64").toString();
    if (source.slice(start, start + text.length) !== text) throw new Error(`${path}:${location.row}: lost the place`);
    return { start, end: start + text.length, text };
  };
  const module = JSON.parse(run.stdout.toString()) as { rules?: Node[] };
  const found: RegoRule[] = [];
  const take = (rule: Node, outer: string | undefined) => {
    const head = rule.head as Node;
    const isDefault = rule.default === true;
    const { start, end, text } = extentOf(rule);
    const called = outer === undefined ? nameOf(head, text) : `else of ${outer}`;
    const headEnd = isDefault ? end : extentOf(head).end;
    // Conditions that OPA adds to a rule that holds always have the head's or the value's place.
    const body = flat(rule.body).filter(({ generated }) => generated !== true);
    const bodies = body.map(extentOf).filter((one) => one.start >= headEnd);
    const inner = [head, ...body].flatMap(descendants);
    const elseBranch = isNode(rule.else) ? rule.else : undefined;
    found.push({
      name: called,
      // A default's own place is its first word.
      extent: isDefault
        ? { start, end: extentOf(head).end }
        : { start, end: elseBranch ? extentOf(elseBranch).start : end },
      isDefault,
      body: bodies.length > 0 ? { start: bodies[0]?.start ?? 0, end: bodies.at(-1)?.end ?? 0 } : undefined,
      conditions: inner.filter(isCondition).map((one) => ({
        ...extentOf(one),
        negated: one.negated === true,
        isEvery: isNode(one.terms) && "domain" in one.terms,
      })),
      elements: isDefault ? [] : inner.flatMap((one) => (isRemovable(one, head) ? elementsOf(extentOf(one)) : [])),
    });
    if (elseBranch !== undefined) take(elseBranch, outer ?? called);
  };
  for (const rule of module.rules ?? []) take(rule, undefined);
  return found;
}

function descendants(node: Node): Node[] {
  return [node, ...children(node).flatMap(descendants)];
}

function nameOf(head: Node, text: string): string {
  const name = flat(head.ref)
    .map(({ value }) => String(value))
    .join(".");
  const id = /"id":\s*(?:sprintf\(\s*)?"([^"]*)"/.exec(text.split(/\bif\b/, 1)[0] ?? "")?.[1];
  return id === undefined ? name || String(head.name) : `${name || head.name} ${id}`;
}

/** An expression that binds nothing: taken away, the rest still means something. */
function isCondition(node: Node): boolean {
  const { terms, generated } = node;
  if (terms === undefined || generated === true || !("index" in node)) return false;
  if (isNode(terms)) return !("symbols" in terms);
  const operator = flat(flat(terms)[0]?.value).map(({ value }) => value);
  return !["assign", "eq"].includes(String(operator[0]));
}

function isRemovable(node: Node, head: Node): boolean {
  if (node.type === "set") return true;
  if (node.type !== "object" || descendants(flat(head.key)[0] ?? {}).includes(node)) return false;
  const plain = ["string", "number", "boolean", "null"];
  return flat(node.value).every(({ type }) => plain.includes(String(type)));
}

/** The parts between the braces and commas of a literal, each with what has to go with it; none where it has only one. */
function elementsOf({ start, text }: { start: number; text: string }): Extent[] {
  const cuts = [0];
  let depth = 0;
  for (const { 0: token, index } of text.matchAll(/"(?:[^"\\]|\\.)*"|`[^`]*`|#.*|[[{(]|[\]})]|,/g)) {
    if ("[{(".includes(token)) depth += 1;
    else if ("]})".includes(token)) depth -= 1;
    else if (token === "," && depth === 1) cuts.push(index);
  }
  cuts.push(text.length - 1);
  const parts = cuts.slice(1).map((end, index) => ({ start: cuts[index] ?? 0, end }));
  const filled = parts.filter((part) => text.slice(part.start + 1, part.end).trim() !== "");
  if (filled.length < 2) return [];
  // The first goes with the comma after it, the others with the one before them.
  return filled.map((part, index) =>
    index === 0
      ? { start: start + part.start + 1, end: start + part.end + 1 }
      : { start: start + part.start, end: start + part.end },
  );
}

/** What of a Rego source can be changed: its rules, conditions, sets, quantifiers, prefixes and numbers, with their extents. */
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
  readonly quantifiers: readonly Quantifier[];
  /** Calls of `startswith`. */
  readonly prefixes: readonly Extent[];
  readonly numbers: readonly Extent[];
  /** Set literals of strings only, with them. */
  readonly words: readonly (Extent & { readonly members: readonly string[] })[];
}

/** `some … in domain`, `every … in domain { body }` or `… in domain`, the domain being no literal. */
export interface Quantifier extends Extent {
  readonly domain: Extent;
  /** `every` alone has one. */
  readonly body: Extent | undefined;
  /** Key and value. */
  readonly isPair: boolean;
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
      quantifiers: inner.flatMap((one) => quantifier(one, extentOf) ?? []),
      prefixes: inner.filter((one) => calls(one, "startswith")).map(extentOf),
      numbers: isDefault
        ? []
        : numbersOf(inner).map((one) => {
            // A negative one's own place is its sign.
            const { start: at } = extentOf(one);
            return { start: at, end: at + String(one.value).length };
          }),
      words: inner.flatMap((one) => {
        const members = one.type === "set" ? flat(one.value) : [];
        const isWords = members.length > 0 && members.every(({ type }) => type === "string");
        return isWords ? [{ ...extentOf(one), members: members.map(({ value }) => String(value)) }] : [];
      }),
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
  const [, put, id] = /"id":\s*(sprintf\(|concat\("", \[)?\s*"([^"]*)"/.exec(text.split(/\bif\b/, 1)[0] ?? "") ?? [];
  if (id === undefined) return name || String(head.name);
  // What is put together is named as its template would be.
  return `${name || head.name} ${id}${put?.startsWith("concat") ? "%s" : ""}`;
}

/** The name of the built-in that a call is of, whether it stands as an expression or as a term. */
function calls(node: Node, name: string): boolean {
  const [operator] = flat(node.type === "call" ? node.value : Array.isArray(node.terms) ? node.terms : []);
  const parts = flat(operator?.value).map(({ value }) => value);
  return parts.join(".") === name;
}

function quantifier(node: Node, extentOf: (node: Node) => Extent): Quantifier | undefined {
  const { terms } = node;
  if (terms === undefined || node.generated === true) return undefined;
  const extent = extentOf(node);
  if (isNode(terms) && "domain" in terms) {
    const domain = extentOf(terms.domain as Node);
    const inner = flat(terms.body).map(extentOf);
    const body = { start: inner[0]?.start ?? 0, end: inner.at(-1)?.end ?? 0 };
    return { ...extent, domain, body, isPair: isNode(terms.key) };
  }
  const [symbol] = isNode(terms) ? flat(terms.symbols) : [];
  const call = symbol ?? node;
  const isPair = calls(call, "internal.member_3");
  if (!isPair && !calls(call, "internal.member_2")) return undefined;
  const last = flat(call.value ?? terms).at(-1);
  if (last === undefined || ["set", "array"].includes(String(last.type))) return undefined;
  return { ...extent, domain: { start: extentOf(last).start, end: extent.end }, body: undefined, isPair };
}

/** Not those that say which element of an array is meant. */
function numbersOf(nodes: readonly Node[]): Node[] {
  const indexes = nodes.filter(({ type }) => type === "ref").flatMap(({ value }) => flat(value).slice(1));
  return nodes.filter((node) => node.type === "number" && !indexes.includes(node));
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

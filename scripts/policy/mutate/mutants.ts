/** Policies with one thing wrong each: what fixtures that test every rule must notice. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { isMap, isScalar, isSeq, LineCounter, parseDocument } from "yaml";
import { maskKinds } from "../../../gateway/policy/decision.ts";
import { policySources } from "../sources.ts";
import { type Extent, readRules } from "./rego-syntax.ts";

export interface Mutant {
  /** Says what it is without a line, so that it stays the same while lines move. */
  readonly key: string;
  readonly file: string;
  readonly line: number;
  /** The whole file, changed. */
  readonly text: string;
}

function shortened(text: string): string {
  const line = text.replace(/\s+/g, " ").replace(/^,|,$/g, "").trim();
  return line.length > 100 ? `${line.slice(0, 99)}…` : line;
}

/** @param folder of Rego sources and data.yaml. */
export function readMutants(folder: string): Mutant[] {
  const mutants = policySources(folder).flatMap((file) => {
    const source = readFileSync(join(folder, file), "utf8");
    return file.endsWith(".rego") ? mutantsOfRego(folder, file, source) : mutantsOfData(file, source);
  });
  const seen = new Map<string, number>();
  return mutants.map((mutant) => {
    const count = (seen.get(mutant.key) ?? 0) + 1;
    seen.set(mutant.key, count);
    return count === 1 ? mutant : { ...mutant, key: `${mutant.key} (${count})` };
  });
}

function mutantsOfRego(folder: string, file: string, source: string): Mutant[] {
  const found: Mutant[] = [];
  const add = (rule: string, what: string, { start, end }: Extent, instead: string, at = start) => {
    const text = source.slice(0, start) + instead + source.slice(end);
    found.push({ key: `${file} ${rule}: ${what}`, file, line: source.slice(0, at).split("\n").length, text });
  };
  for (const { name, extent, isDefault, body, conditions, elements } of readRules(join(folder, file), source)) {
    if (isDefault) {
      add(name, "default removed", extent, "");
      continue;
    }
    // Names that the head takes from the body stay bound.
    const inBraces = body !== undefined && /\{\s*(#.*\s*)*$/.test(source.slice(extent.start, body.start));
    if (body !== undefined) {
      const text = source.slice(body.start, body.end);
      add(name, "removed", body, inBraces ? `false; ${text}` : `{ false; ${text} }`, extent.start);
    } else if (source.startsWith("else", extent.start)) add(name, "removed", extent, "");
    else add(name, "removed", { start: extent.end, end: extent.end }, " if false", extent.start);
    for (const condition of conditions) {
      const text = source.slice(condition.start, condition.end);
      add(name, `condition removed: ${shortened(text)}`, condition, "true");
      if (condition.negated) add(name, `condition negated: ${shortened(text)}`, condition, text.replace(/^not\s+/, ""));
      else if (!condition.isEvery) add(name, `condition negated: ${shortened(text)}`, condition, `not ${text}`);
    }
    for (const element of elements) {
      add(name, `element removed: ${shortened(source.slice(element.start, element.end))}`, element, "");
    }
  }
  return found;
}

/** Each element of a list removed, each plain value another. */
function mutantsOfData(file: string, source: string): Mutant[] {
  const lines = new LineCounter();
  const document = parseDocument(source, { lineCounter: lines });
  const found: Mutant[] = [];
  const add = (
    path: readonly PropertyKey[],
    what: string,
    change: (copy: ReturnType<typeof parseDocument>) => void,
  ) => {
    const copy = parseDocument(source);
    change(copy);
    const range = (document.getIn(path, true) as { range?: readonly number[] }).range;
    const { line } = lines.linePos(range?.[0] ?? 0);
    found.push({
      key: `${file} ${path.filter((key) => typeof key === "string").join(".")}: ${what}`,
      file,
      line,
      text: String(copy),
    });
  };
  const walk = (node: unknown, path: readonly (string | number)[]) => {
    if (isMap(node)) {
      for (const { key, value } of node.items) walk(value, [...path, String(isScalar(key) ? key.value : key)]);
    } else if (isSeq(node)) {
      node.items.forEach((item, index) => {
        add([...path, index], `element removed: ${isScalar(item) ? item.value : item}`, (copy) =>
          copy.deleteIn([...path, index]),
        );
      });
    } else if (isScalar(node)) {
      const other = otherValue(node.value);
      add(path, `${node.value} changed to ${other}`, (copy) => copy.setIn(path, other));
    }
  };
  walk(document.contents, []);
  return found;
}

function otherValue(value: unknown): unknown {
  if (typeof value === "number") return value + 1;
  if (typeof value === "boolean") return !value;
  const mask = (maskKinds as readonly unknown[]).indexOf(value);
  if (mask >= 0) return maskKinds[(mask + 1) % maskKinds.length];
  const text = String(value);
  return /\d/.test(text) ? text.replace(/\d+/, (digits) => String(Number(digits) + 1)) : `${text}-other`;
}

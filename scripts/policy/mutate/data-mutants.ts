/** A policy's data with one thing wrong each: a list that lacks an element or has one more, a pattern, a plain value. */
import { isMap, isScalar, isSeq, LineCounter, parseDocument } from "yaml";
import { isMap as isRecord } from "../../../gateway/policy/data.ts";
import { maskKinds } from "../../../gateway/policy/decision.ts";
import type { CatalogSnapshot } from "../../../gateway/postgres/sql/catalog.ts";
import { builtInFile, readSnapshot } from "../catalog/snapshot-file.ts";
import type { Mutant } from "./mutants.ts";

/** Each element of a list removed, each list of what is let through longer, each pattern another, each plain value too. */
export function mutantsOfData(file: string, source: string): Mutant[] {
  const lines = new LineCounter();
  const document = parseDocument(source, { lineCounter: lines });
  const groups = groupsOf(document.toJS());
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
      const name = String(path.at(-1));
      node.items.forEach((item, index) => {
        const at = [...path, index];
        const text = String(isScalar(item) ? item.value : item);
        add(at, `element removed: ${text}`, (copy) => copy.deleteIn(at));
        for (const other of letsPass.test(name) ? widened(text) : narrowed(text, name)) {
          add(at, `${text} changed to ${other}`, (copy) => copy.setIn(at, other));
        }
      });
      for (const more of additions(path, groups).filter((one) => !(node.toJSON() as unknown[]).includes(one))) {
        add(path, `element added: ${more}`, (copy) => copy.addIn(path, more));
      }
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

const namesGroups = /^(exempt|show_to|approvers|auditors)$/;
const letsPass = /^(allow|settings_allowed)$/;
/** Those that no group has of itself. */
const granted = ["read", "write", "ddl", "dcl"];

/** What would be let through if it stood in this list too: nothing where a list is of what is refused or held. */
function additions(path: readonly (string | number)[], groups: readonly string[]): readonly string[] {
  const name = String(path.at(-1));
  if (path.at(-2) === "access") return granted;
  if (letsPass.test(name)) return ["*"];
  return namesGroups.test(name) ? groups : [];
}

/** All groups that data knows. */
function groupsOf(value: unknown, key = ""): string[] {
  if (namesGroups.test(key) && Array.isArray(value)) return value.map(String);
  if (!isRecord(value)) return [];
  const own = key === "access" ? Object.keys(value) : [];
  return [...new Set([...own, ...Object.entries(value).flatMap(([name, item]) => groupsOf(item, name))])].sort();
}

/** With more before it, and after it or after all but its last letter. */
function widened(pattern: string): string[] {
  return [`*${pattern}`, pattern.endsWith("*") ? `${pattern.slice(0, -2)}*` : `${pattern}*`];
}

let builtIn: CatalogSnapshot | undefined;

/** Without its last star, in one schema only, and as the first or the last of PostgreSQL's own names that it covers. */
function narrowed(pattern: string, list: string): string[] {
  if (!pattern.includes("*")) return [];
  builtIn ??= readSnapshot(builtInFile);
  const { functions, relations } = builtIn;
  const names = list === "functions" ? functions : relations.map(({ schema, name }) => `${schema}.${name}`);
  const glob = new Bun.Glob(pattern);
  const covered = names.filter((name) => glob.match(name)).sort();
  const starless = pattern.replace(/\*$/, "");
  const inPublic = pattern.replace(/^\*(?=\.)/, "public").replace(/^\*/, "public.*");
  const instances = covered.length > 1 ? [covered[0] ?? "", covered.at(-1) ?? ""] : [];
  return [...new Set([starless, inPublic, ...instances])].filter((one) => one !== pattern);
}

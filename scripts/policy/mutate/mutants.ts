/** Policies with one thing wrong each: what fixtures that test every rule must notice. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { statementClasses } from "../../../gateway/policy/input.ts";
import { policySources } from "../sources.ts";
import { mutantsOfData } from "./data-mutants.ts";
import { type Extent, type Quantifier, type RegoRule, readRules } from "./rego-syntax.ts";

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
  for (const rule of readRules(join(folder, file), source)) {
    const { name, extent, isDefault, body, conditions, elements } = rule;
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
    for (const [what, at, instead] of loosened(rule, source)) add(name, what, at, instead);
  }
  return found;
}

type Change = [what: string, at: Extent, instead: string];

const vocabularies = [statementClasses, ["output", "derived", "predicate", "order", "write"]];

/** What still holds of what a fixture shows first, and of too little or too much of the rest. */
function loosened({ quantifiers, prefixes, numbers, words }: RegoRule, source: string): Change[] {
  const textOf = ({ start, end }: Extent) => source.slice(start, end);
  const prefixed = (call: Extent): Change[] => {
    const text = textOf(call);
    const shorter = text.replace(/(?<=.)."\)$/, '")');
    const changes: Change[] = [[`anywhere: ${shortened(text)}`, call, text.replace("startswith", "contains")]];
    return shorter === text ? changes : [...changes, [`prefix shortened: ${shortened(text)}`, call, shorter]];
  };
  return [
    ...quantifiers.flatMap((one) => narrowed(one, textOf)),
    ...prefixes.flatMap(prefixed),
    ...numbers.map((one): Change => [`${textOf(one)} increased`, one, String(Number(textOf(one)) + 1)]),
    ...words.flatMap(({ members, ...set }) => {
      const known = vocabularies.find((all) => members.every((member) => (all as readonly string[]).includes(member)));
      const others = (known ?? []).filter((word) => !members.includes(word));
      return others.map((word): Change => {
        const text = textOf(set);
        return [`element added: "${word}"`, set, text.replace(/,?\s*\}$/, `, "${word}"}`)];
      });
    }),
  ];
}

/** The first and the last only, in the order of their keys where they have some, and where all are meant, any. */
function narrowed({ domain, body, isPair, ...all }: Quantifier, textOf: (of: Extent) => string): Change[] {
  const of = textOf(domain);
  const list = isPair ? `sort([one_of | some one_of, _ in ${of}])` : `[one_of | some one_of in ${of}]`;
  const only = (from: string, to: string) => {
    const part = `array.slice(${list}, ${from}, ${to})`;
    return isPair ? `object.filter(${of}, ${part})` : part;
  };
  const text = shortened(textOf(all));
  const changes: Change[] = [
    [`first only: ${text}`, domain, only("0", "1")],
    [`last only: ${text}`, domain, only(`count(${of}) - 1`, `count(${of})`)],
  ];
  if (body === undefined) return changes;
  const given = textOf({ start: all.start, end: domain.end }).replace(/^every/, "some");
  const any = `count([1 |\n${given}\n${textOf(body)}\n]) >= min([1, count(${of})])`;
  return [...changes, [`any is enough: ${text}`, all, any]];
}

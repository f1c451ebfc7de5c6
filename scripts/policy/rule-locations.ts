/**
 * Where in the Rego sources a rule that decided is written. A rule is known by its id, and where several share one, by
 * the set it contributes to and the form of its message.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { policySources } from "./sources.ts";

export interface RuleLocation {
  /** "sallyport.access". */
  readonly package: string;
  readonly set: string;
  readonly file: string;
  readonly line: number;
  /** As the source has it, with %v for what it does not say: "agents.%v". */
  readonly written: string;
  readonly id: RegExp;
  readonly message: RegExp;
}

const string = String.raw`"(?:[^"\\]|\\.)*"`;
/** A text as rules write it: a string, a format, or strings and values joined. */
const text = String.raw`(?:sprintf\(\s*)?(${string})|concat\("",\s*\[((?:${string}|[^\]"])*)\]\)`;
const idField = new RegExp(`"(?:id|rule)":\\s*(?:${text})`, "g");
const messageField = new RegExp(`"message":\\s*(?:${text})`);
const call = new RegExp(`[\\w.]+\\((?:${string}|[^()"])*\\)`, "g");
const contribution = /^([a-z_]+) contains /;
/** A rule begins at the first column; so does what only ends one. */
const ruleStart = /^(?=[a-z_])/m;

/** The text with `%v` for each value that is not in the source; undefined where it is not a text of these forms. */
function formatOf(found: RegExpExecArray | null): string | undefined {
  const [, format, joined] = found ?? [];
  if (format !== undefined) return format.slice(1, -1).replace(/%[a-z]/g, "%v");
  if (joined === undefined) return undefined;
  let parts = joined;
  for (let before = ""; before !== parts; ) [before, parts] = [parts, parts.replace(call, "value")];
  const pieces = [...parts.matchAll(new RegExp(`(${string})|[^",\\s][^",]*`, "g"))];
  return pieces.map(([, literal]) => literal?.slice(1, -1) ?? "%v").join("");
}

/** The values of a format are anything. */
function pattern(format: string | undefined): RegExp {
  if (format === undefined) return /[\s\S]*/;
  const literal = format.split("%v").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${literal.join("[\\s\\S]*")}$`);
}

/** @param folder of Rego sources; locations name files relative to it. */
export function readRuleLocations(folder: string): RuleLocation[] {
  const found: RuleLocation[] = [];
  for (const file of policySources(folder).filter((name) => name.endsWith(".rego"))) {
    let line = 1;
    const source = readFileSync(join(folder, file), "utf8");
    const [, of = ""] = /^package\s+(\S+)/m.exec(source) ?? [];
    for (const rule of source.split(ruleStart)) {
      const code = rule.replace(/^\s*#.*$/gm, "");
      const set = contribution.exec(code)?.[1] ?? "";
      for (const one of code.matchAll(idField)) {
        const { index } = one;
        const written = formatOf(one) ?? "";
        // A set's contribution is its rule; elsewhere one rule may give several.
        const at = set === "" ? code.slice(0, index).split("\n").length - 1 : 0;
        const message = formatOf(messageField.exec(code.slice(index)));
        found.push({
          package: of,
          set,
          file,
          line: line + at,
          written,
          id: pattern(written),
          message: pattern(message),
        });
      }
      line += rule.split("\n").length - 1;
    }
  }
  return found;
}

/** The source of a rule that decided, or undefined where no source has it. */
export function findRule(
  locations: readonly RuleLocation[],
  verdict: "allow" | "deny" | "mask" | "approve" | "oblige",
  rule: { readonly id: string; readonly message?: string },
): RuleLocation | undefined {
  const matching = locations.filter(({ id }) => id.test(rule.id));
  const literal = matching.filter(({ written }) => written === rule.id);
  const named = literal.length > 0 ? literal : matching;
  const inSet = named.filter(({ set }) => set === verdict);
  // The message of a mask is made by main.rego.
  const says = ({ message }: RuleLocation) => message.test(rule.message ?? "");
  const exact = verdict === "mask" ? inSet[0] : inSet.find(says);
  return exact ?? inSet[0] ?? named.find(says) ?? named[0];
}

/** "access/access.rego:55", or undefined where no source has such a rule. */
export function locate(...given: Parameters<typeof findRule>): string | undefined {
  const one = findRule(...given);
  return one && `${one.file}:${one.line}`;
}

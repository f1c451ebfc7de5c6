/**
 * Where in the Rego sources a rule that decided is written. A rule is known by its id, and where several share one, by
 * the set it contributes to and the form of its message.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { policySources } from "./build.ts";

export interface RuleLocation {
  readonly set: string;
  readonly file: string;
  readonly line: number;
  readonly id: RegExp;
  readonly message: RegExp;
}

const contribution = /^(?:([a-z_]+) contains )?.*\{\s*"(?:id|column)":.*$/;
const idField = /"(?:id|rule)":\s*(?:sprintf\(\s*)?"((?:[^"\\]|\\.)*)"/;
const messageField = /"message":\s*(?:sprintf\(\s*)?"((?:[^"\\]|\\.)*)"/;

/** The values of a format are anything. */
function pattern(format: string | undefined): RegExp {
  if (format === undefined) return /[\s\S]*/;
  const literal = format.split(/%[a-z]/).map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${literal.join("[\\s\\S]*")}$`);
}

/** @param folder of Rego sources; locations name files relative to it. */
export function readRuleLocations(folder: string): RuleLocation[] {
  const found: RuleLocation[] = [];
  for (const file of policySources(folder).filter((name) => name.endsWith(".rego"))) {
    const lines = readFileSync(join(folder, file), "utf8").split("\n");
    lines.forEach((text, index) => {
      const id = contribution.test(text) ? idField.exec(text)?.[1] : undefined;
      if (id === undefined) return;
      const set = contribution.exec(text)?.[1] ?? "";
      found.push({ set, file, line: index + 1, id: pattern(id), message: pattern(messageField.exec(text)?.[1]) });
    });
  }
  return found;
}

const setOf = { deny: "deny", approve: "approve", mask: "mask", allow: "allow" } as const;

/** "access/access.rego:55", or undefined where no source has such a rule. */
export function locate(
  locations: readonly RuleLocation[],
  verdict: keyof typeof setOf,
  rule: { readonly id: string; readonly message: string },
): string | undefined {
  const named = locations.filter(({ id }) => id.test(rule.id));
  const inSet = named.filter(({ set }) => set === setOf[verdict]);
  // The message of a mask is made by main.rego.
  const exact = inSet.find(({ message }) => verdict === "mask" || message.test(rule.message));
  const one = exact ?? inSet[0] ?? named[0];
  return one && `${one.file}:${one.line}`;
}

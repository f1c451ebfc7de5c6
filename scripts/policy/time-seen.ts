/**
 * Whether a policy sees the time only by its rules' windows. A decision then does not depend on the time while no rule
 * has a window, and is cached without it. It is said of the shipped `rules` and `prepared` packages alone, as they were
 * read for it: whatever else speaks of the time, or reaches into them, makes it be seen as any other input.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { policySources } from "./sources.ts";

/** SHA-256 of the sources in which a rule without `within` and `outside` was seen to be the same at all times. */
export const readSources: Readonly<Record<string, string>> = {
  "prepared/prepared.rego": "57a078da5ffdf7318c715a16bcfa2b9e6f0303d3fb128957ba72d30fe08af4fe",
  "rules/rules.rego": "251208df784279b5950830ad5a63799355542b89b27b8751206247498e86f1da",
};

/** Input's time, and what the `rules` package asks it by. */
const speaksOfTime = /\b(?:now|_timely|_within|_outside|_open)\b/;

export function digestOfSource(folder: string, name: string): string {
  return createHash("sha256")
    .update(readFileSync(join(folder, name)))
    .digest("hex");
}

/** @param folder of Rego sources */
export function seesTimeOnlyByWindows(folder: string): boolean {
  const rego = policySources(folder).filter((name) => name.endsWith(".rego"));
  const asRead = Object.entries(readSources);
  if (!asRead.every(([name, digest]) => rego.includes(name) && digestOfSource(folder, name) === digest)) return false;
  return rego
    .filter((name) => !Object.hasOwn(readSources, name))
    .every((name) => !speaksOfTime.test(readFileSync(join(folder, name), "utf8").replace(/^\s*#.*$/gm, "")));
}

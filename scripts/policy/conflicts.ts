/**
 * What no order between contributions can settle, refused before it is compiled. A rule's id names one rule: people read
 * it in a denial, fixtures expect it, and `impact` counts by it, so two packages may not give the same one. Two rules of
 * data that hold the same commands for different people are refused where data is checked.
 */
import { type RuleLocation, readRuleLocations } from "./rule-locations.ts";

const anything = "%v";

/** Whether one id may be of both; of two formats, whether their fixed ends go together. */
function overlap(a: RuleLocation, b: RuleLocation): boolean {
  const [headOfA = "", ...restOfA] = a.written.split(anything);
  const [headOfB = "", ...restOfB] = b.written.split(anything);
  const tailOfA = restOfA.at(-1);
  const tailOfB = restOfB.at(-1);
  if (tailOfA === undefined) return b.id.test(a.written);
  if (tailOfB === undefined) return a.id.test(b.written);
  const heads = headOfA.startsWith(headOfB) || headOfB.startsWith(headOfA);
  return heads && (tailOfA.endsWith(tailOfB) || tailOfB.endsWith(tailOfA));
}

/** @returns one message for each pair of packages that share an id, naming both places */
export function ruleConflicts(folder: string): string[] {
  // An id of which the source says nothing could be any.
  const stated = readRuleLocations(folder).filter(({ written }) => !written.startsWith(anything));
  const found = new Map<string, string>();
  stated.forEach((one, index) => {
    for (const other of stated.slice(index + 1)) {
      if (one.package === other.package || !overlap(one, other)) continue;
      const pair = `${one.package} ${other.package} ${one.written}`;
      const places = `${one.file}:${one.line} (${one.written}) and ${other.file}:${other.line} (${other.written})`;
      found.set(pair, found.get(pair) ?? `one rule id in two packages: ${places}; begin one with its package's name`);
    }
  });
  return [...found.values()].map((message) => message.replaceAll(anything, "…"));
}

/** @throws Error that names each conflict */
export function refuseConflicts(folder: string): void {
  const conflicts = ruleConflicts(folder);
  if (conflicts.length > 0) throw new Error(conflicts.join("\n"));
}

/** Results as people read them: a line a session, and each step that failed as a difference with the rules behind it. */
import { relative } from "node:path";
import type { Verdict } from "../../../gateway/policy/decision.ts";
import { locate, type RuleLocation } from "../rule-locations.ts";
import type { SessionResult, StepResult } from "./fixture-sessions.ts";

const here = (path: string) => relative(process.cwd(), path);

export function failed({ steps }: SessionResult): StepResult[] {
  return steps.filter(({ differences }) => differences.length > 0);
}

export function sessionLine(result: SessionResult): string {
  const { path, name, steps, ms } = result;
  const bad = failed(result).length;
  const counts = `${steps.length - 1} step${steps.length === 2 ? "" : "s"}${bad > 0 ? `, ${bad} failed` : ""}`;
  return `${bad > 0 ? "FAIL" : "ok  "}  ${here(path)}  ${name}  (${counts}, ${Math.round(ms)} ms)`;
}

/** @param folder of the policy's sources, that locations are relative to. */
export function failureText(
  { path, name }: Pick<SessionResult, "path" | "name">,
  step: StepResult,
  locations: readonly RuleLocation[],
  folder: string,
): string {
  const at = (verdict: Verdict, rule: { id: string; message?: string }) => {
    const place = locate(locations, verdict, rule);
    return place === undefined ? "in no source" : `${here(folder)}/${place}`;
  };
  const number = step.number === 0 ? "opening" : `step ${step.number}`;
  const lines = [`${here(path)}:${step.line}: ${name}, ${number}: ${step.run}`];
  for (const { what, expected, got } of step.differences) {
    const label = what === "verdict" ? "" : `${what} `;
    lines.push(`  - expected ${label}${expected}`, `  + got      ${label}${got}`);
  }
  const { judged } = step;
  for (const rule of judged?.rules ?? []) {
    lines.push(`    rule ${rule.id}: ${rule.message}`, `      ${at(judged?.verdict ?? "deny", rule)}`);
  }
  const fired = new Set(judged?.rules.map(({ id }) => id));
  const verdict = (step.differences.find(({ what }) => what === "verdict")?.expected.split(" ")[0] ??
    "deny") as Verdict;
  // What allows is not told where something else decided: it may have held all the same.
  for (const id of verdict === "allow" ? [] : step.wanted.filter((one) => !fired.has(one))) {
    lines.push(`    rule ${id} did not decide`, `      ${at(verdict, { id })}`);
  }
  return lines.join("\n");
}

/** Rules of the sources that no step was decided by. */
export function unfiredRules(results: readonly SessionResult[], locations: readonly RuleLocation[]): RuleLocation[] {
  const fired = new Set<string | undefined>();
  for (const { steps } of results) {
    for (const { judged } of steps) {
      for (const rule of judged?.rules ?? []) fired.add(locate(locations, judged?.verdict ?? "deny", rule));
      const { limit, timeout, read_only, rates = [] } = judged?.obligations ?? {};
      for (const obliged of [limit, timeout, read_only, ...rates]) {
        if (obliged) fired.add(locate(locations, "oblige", { id: obliged.rule }));
      }
    }
  }
  return locations.filter(({ file, line }) => !fired.has(`${file}:${line}`));
}

/** Fixture sessions (`fixtures/sessions/*.yaml`): commands and what the compiled policy must say of them. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { LineCounter, parseDocument } from "yaml";
import { z } from "zod";
import type { Policy } from "../../gateway/policy/policy.ts";
import { policiesFolder } from "./build.ts";
import { openDryRun } from "./dry-run.ts";
import { locate, readRuleLocations } from "./rule-locations.ts";
import { catalogOf, identityOf, identitySchema } from "./subject.ts";

const expected = z
  .string()
  .regex(
    /^(allow|deny|mask|approve)( [\w.-]+)*$/,
    'a verdict and the ids of its rules, such as "deny writes.unbounded"',
  );
const session = z.strictObject({
  as: identitySchema,
  target: z.string(),
  catalog: z.string().default("demo"),
  /** Whether kinds of command are new to the identity; not given: as the session's own past says. */
  novel: z.boolean().optional(),
  steps: z.array(
    z.strictObject({
      run: z.string(),
      params: z.array(z.string().nullable()).optional(),
      approved: z.boolean().default(false),
      expect: expected,
      masks: z.record(z.string(), z.string()).optional(),
    }),
  ),
});
const shape = z.strictObject({ sessions: z.record(z.string(), session) });

/** @throws Error with file, line and what was expected there */
function readFixture(path: string): z.infer<typeof shape> {
  const lines = new LineCounter();
  const document = parseDocument(readFileSync(path, "utf8"), { lineCounter: lines });
  const [problem] = document.errors;
  if (problem) throw new Error(`${path}: ${problem.message}`);
  const checked = shape.safeParse(document.toJS());
  if (checked.success) return checked.data;
  const issue = checked.error.issues[0];
  let at: readonly PropertyKey[] = issue?.path ?? [];
  let found = document.getIn(at, true);
  for (; found === undefined && at.length > 0; found = document.getIn(at, true)) at = at.slice(0, -1);
  const offset = (found as { range?: readonly number[] } | undefined)?.range?.[0] ?? 0;
  throw new Error(`${path}:${lines.linePos(offset).line}: ${(issue?.path ?? []).join(".")}: ${issue?.message}`);
}

export interface FixtureResult {
  readonly steps: number;
  /** One text a step that gave something else. */
  readonly failures: readonly string[];
}

export const fixturesFolder = resolve(import.meta.dir, "../../fixtures/sessions");

/** @param paths of YAML files. @throws Error where one is not a fixture */
export async function runFixtures(policy: Policy, paths: readonly string[]): Promise<FixtureResult> {
  const failures: string[] = [];
  let steps = 0;
  for (const path of paths) {
    for (const [name, one] of Object.entries(readFixture(path).sessions)) {
      const target = { name: one.target, kind: "postgres", database: one.target, labels: {} };
      const catalog = catalogOf(one.catalog, dirname(path));
      const run = await openDryRun({ policy, identity: identityOf(one.as), target, catalog });
      for (const [index, step] of one.steps.entries()) {
        steps += 1;
        const { intent } = await run.run({
          text: step.run,
          ...(step.params && { params: step.params }),
          ...(one.novel !== undefined && { novel: one.novel }),
          ...(step.approved && { decided: "approve" }),
        });
        const ids = [...new Set(intent.rules.map(({ id }) => id))].sort();
        const wanted = step.expect.split(" ");
        const masks = Object.fromEntries(intent.masks.map((mask) => [mask.column, mask.with]));
        const rulesDiffer = wanted.length > 1 && wanted.slice(1).sort().join() !== ids.join();
        const masksDiffer = step.masks !== undefined && !Bun.deepEquals(step.masks, masks);
        if (wanted[0] === intent.verdict && !rulesDiffer && !masksDiffer) continue;
        const rules = intent.rules.map((rule) => {
          const place = locate(readRuleLocations(policiesFolder), intent.verdict, rule);
          return `    ${rule.id}: ${rule.message}${place === undefined ? "" : `\n      policies/${place}`}`;
        });
        const shown = (what: string, given: unknown) =>
          `${what}${given === undefined ? "" : ` ${JSON.stringify(given)}`}`;
        failures.push(
          [
            `${path}: ${name}, step ${index + 1}: ${step.run}`,
            `  - expected ${shown(step.expect, step.masks)}`,
            `  + got      ${shown([intent.verdict, ...ids].join(" "), step.masks && masks)}`,
            ...rules,
          ].join("\n"),
        );
      }
    }
  }
  return { steps, failures };
}

export function fixturePaths(given: readonly string[]): string[] {
  if (given.length > 0) return given.map((path) => resolve(path));
  const names = readdirSync(fixturesFolder).filter((name) => name.endsWith(".yaml"));
  return names.sort().map((name) => join(fixturesFolder, name));
}

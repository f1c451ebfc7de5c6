/** `policy test`: Rego's unit tests, then fixture sessions against what the policy's sources compile to. */
import { writeFileSync } from "node:fs";
import { relative } from "node:path";
import { parseArgs } from "node:util";
import { Policy } from "../../../gateway/policy/policy.ts";
import { defaultBundle } from "../build.ts";
import { record } from "../record/command.ts";
import { readRuleLocations } from "../rule-locations.ts";
import { policiesFolder } from "../sources.ts";
import { loadSources } from "../subject.ts";
import { fixturePaths, fixturesFolder, readFixture } from "./fixture-file.ts";
import { runFixture, type SessionResult } from "./fixture-sessions.ts";
import { junit } from "./junit.ts";
import { coverageTable, type RegoTest, regoCoverage, runRegoTests, totalCoverage } from "./rego-tests.ts";
import { failed, failureText, sessionLine, unfiredRules } from "./report.ts";
import { watchFolders } from "./watch.ts";

export const testUsage = `usage: bun run policy test [paths] [options]

  paths              fixture files or folders (fixtures/sessions); Rego's unit tests run only without any
  --coverage         what Rego's unit tests reach of each file, and which rules no fixture was decided by
  --coverage-min <n> fails below n percent of all lines (with --coverage)
  --junit <file>     results for a CI system
  --watch            again whenever policies/ or the fixtures are saved
  --bundle, --data   another bundle, and a deployment's data (policies/, none)

       bun run policy test --record <session id> [options]    a recorded session as a fixture, without values

  --store <url>      a store (file:…) or a gateway's configuration; else over the API (--gateway, or who is logged in)
  --out <file>       where to (fixtures/sessions/recorded-….yaml)
  --catalog, --connect   the target's names, as for explain; else what the recording has of them`;

interface TestOptions {
  readonly paths: readonly string[];
  readonly coverage: boolean;
  readonly coverageMin: number | undefined;
  readonly junit: string | undefined;
  readonly bundle: string | undefined;
  readonly data: string | undefined;
}

/** @returns the exit code: 1 where something failed, 2 for a wrong line. */
export async function test(line: readonly string[]): Promise<number> {
  let parsed: ReturnType<typeof parse>;
  try {
    parsed = parse(line);
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${testUsage}`);
    return 2;
  }
  const { values, positionals: paths } = parsed;
  const { bundle, data } = values;
  const coverageMin = values["coverage-min"] === undefined ? undefined : Number(values["coverage-min"]);
  if (coverageMin !== undefined && !(coverageMin >= 0 && coverageMin <= 100)) {
    console.error(`--coverage-min ${values["coverage-min"]}: a percentage\n\n${testUsage}`);
    return 2;
  }
  if (values.record !== undefined) return await record(values.record, values);
  const coverage = values.coverage || coverageMin !== undefined;
  const options = { paths, coverage, coverageMin, junit: values.junit, bundle, data };
  if (!values.watch) return await runOnce(options);
  const again = async () => {
    await runOnce(options);
    console.log("\nwaiting for a change …");
  };
  await again();
  const folders = paths.length > 0 ? fixturePaths(paths) : [fixturesFolder];
  return await watchFolders([policiesFolder, ...folders], async (changed) => {
    console.log(`\n${changed} was saved`);
    await again();
  });
}

function parse(line: readonly string[]) {
  return parseArgs({
    args: [...line],
    allowPositionals: true,
    options: {
      coverage: { type: "boolean", default: false },
      "coverage-min": { type: "string" },
      junit: { type: "string" },
      watch: { type: "boolean", default: false },
      bundle: { type: "string" },
      data: { type: "string" },
      record: { type: "string" },
      store: { type: "string" },
      gateway: { type: "string" },
      out: { type: "string" },
      catalog: { type: "string" },
      connect: { type: "string" },
    },
  });
}

async function runOnce(options: TestOptions): Promise<number> {
  try {
    return (await testEverything(options)) ? 0 : 1;
  } catch (error) {
    // Sources that do not compile, a fixture that is none: their own message says file and line.
    console.error(`FAIL  ${(error as Error).message}`);
    return 1;
  }
}

async function testEverything(options: TestOptions): Promise<boolean> {
  const rego = options.paths.length > 0 ? [] : await runRegoTests(policiesFolder);
  const regoOk = options.paths.length > 0 || reportRego(rego);
  const measured = options.coverage && regoOk ? await regoCoverage(policiesFolder) : [];

  const { bundle, compiled } = await loadSources(options);
  if (compiled) {
    const committed = relative(process.cwd(), defaultBundle);
    console.log(`the sources differ from ${committed} (\`policy build\`): testing what they compile to`);
  }
  const policy = new Policy(bundle);
  const sessions: SessionResult[] = [];
  for (const fixture of fixturePaths(options.paths).map(readFixture)) {
    for await (const result of runFixture(policy, fixture)) {
      sessions.push(result);
      console.log(sessionLine(result));
    }
  }
  const locations = readRuleLocations(policiesFolder);
  for (const result of sessions) {
    for (const step of failed(result)) console.error(`\n${failureText(result, step, locations, policiesFolder)}`);
  }
  const steps = sessions.reduce((total, { steps: all }) => total + all.length - 1, 0);
  const bad = sessions.reduce((total, result) => total + failed(result).length, 0);
  console.log(
    `${bad > 0 ? "\n" : ""}${sessions.length} fixture sessions, ${steps} steps: ${bad > 0 ? `${bad} not` : "all"} as expected`,
  );
  if (options.junit !== undefined) {
    const text = junit(rego, sessions, (result, step) => failureText(result, step, locations, policiesFolder));
    writeFileSync(options.junit, text);
  }
  let ok = regoOk && bad === 0;
  if (options.coverage && regoOk) {
    console.log(`\nlines that Rego's unit tests reach\n${coverageTable(measured)}`);
    const total = totalCoverage(measured);
    if (options.coverageMin !== undefined && total < options.coverageMin) {
      console.error(`FAIL  coverage ${total.toFixed(1)} % is below ${options.coverageMin} %`);
      ok = false;
    }
    const unfired = unfiredRules(sessions, locations);
    console.log(`\n${unfired.length === 0 ? "every rule decided some step" : "rules that decided no step"}`);
    for (const { written, file, line } of unfired) {
      console.log(`  ${written}  ${relative(process.cwd(), policiesFolder)}/${file}:${line}`);
    }
  }
  return ok;
}

function reportRego(tests: readonly RegoTest[]): boolean {
  const bad = tests.filter(({ failure }) => failure !== undefined);
  const seconds = tests.reduce((total, one) => total + one.seconds, 0);
  for (const { file, line, name, failure } of bad) {
    console.error(`${relative(process.cwd(), policiesFolder)}/${file}:${line}: ${name}: ${failure}`);
  }
  const count = `${tests.length} tests${bad.length > 0 ? `, ${bad.length} failed` : ""}`;
  console.log(`${bad.length > 0 ? "FAIL" : "ok  "}  Rego unit tests  (${count}, ${Math.round(seconds * 1_000)} ms)`);
  return bad.length === 0;
}

/** `bun run policy build|check|test …`: what policy authors run. */
import { ClientError } from "../../gateway/cli/command.ts";
import { escapeControls } from "../../gateway/cli/terminal.ts";
import { GatewayError } from "../../gateway/errors.ts";
import { build, buildUsage } from "./build-command.ts";
import { optionsOfUrl, readLiveCatalog } from "./catalog/live.ts";
import { writeSnapshot } from "./catalog/snapshot-file.ts";
import { check } from "./check.ts";
import { explain, explainUsage } from "./explain.ts";
import { impact, impactUsage } from "./impact/impact.ts";
import { WrongLine } from "./line.ts";
import { mutate, mutateUsage } from "./mutate/command.ts";
import { policiesFolder } from "./sources.ts";
import { test, testUsage } from "./test/command.ts";

const usage = `usage: bun run policy <command> [options]

  build    compiles policies/ to the bundle that a gateway loads, or a signed one
  check    formats, built-ins, paths of the input, Regal, and what two packages must not both say
  test     Rego's unit tests and the fixture sessions
  mutate   breaks each rule in turn, and lists what no fixture notices
  explain  one command as policy sees it, and which rules decided
  impact   what a change would have done to the recorded commands
  catalog  the names of a live database as a file, for --catalog

Each takes --help.`;
const checkUsage = "usage: bun run policy check";
const catalogUsage = "usage: bun run policy catalog postgres://user:password@host:port/database > catalog.json";
const usages: Readonly<Record<string, string>> = {
  ...{ build: buildUsage, check: checkUsage, test: testUsage, mutate: mutateUsage, explain: explainUsage },
  ...{ impact: impactUsage, catalog: catalogUsage },
};

/** @returns the exit code */
async function run(command: string | undefined, rest: readonly string[]): Promise<number> {
  switch (command) {
    case "build":
      console.log(`built ${await build(rest)}`);
      return 0;
    case "check":
      if (rest.length > 0) throw new WrongLine(`unexpected argument "${rest[0]}"`, checkUsage);
      return check(policiesFolder);
    case "test":
      return await test(rest);
    case "mutate":
      return await mutate(rest);
    case "catalog": {
      // For `explain --catalog`: the names of a live database, as a file.
      const [url] = rest;
      if (url === undefined) throw new WrongLine("it needs an address", catalogUsage);
      process.stdout.write(writeSnapshot((await readLiveCatalog(optionsOfUrl(url))).snapshot));
      return 0;
    }
    case "explain":
      return await explain(rest);
    case "impact":
      return await impact(rest);
    default:
      throw new WrongLine(command === undefined ? "it needs a command" : `there is no command "${command}"`, usage);
  }
}

const helps = ["--help", "-h"];
const [command, ...rest] = process.argv.slice(2);
try {
  if (command === "help" || helps.some((help) => [command, ...rest].includes(help))) {
    console.log(usages[command ?? ""] ?? usages[rest[0] ?? ""] ?? usage);
    process.exit(0);
  }
  process.exit(await run(command, rest));
} catch (error) {
  if (error instanceof WrongLine) {
    console.error(`${escapeControls(error.message)}\n\n${error.usage}`);
    process.exit(2);
  }
  // What is wrong with sources, data or options is said in words; anything else is a fault, and shows where it is.
  const said = error instanceof GatewayError || error instanceof ClientError;
  if (!said && (error as Error).constructor !== Error) throw error;
  console.error((error as Error).message);
  if (said && error.hint !== undefined) console.error(error.hint);
  process.exit(1);
}

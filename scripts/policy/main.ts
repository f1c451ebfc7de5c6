/** `bun run policy build|check|test`: what policy authors run. */
import { GatewayError } from "../../gateway/errors.ts";
import { build } from "./build-command.ts";
import { optionsOfUrl, readLiveCatalog } from "./catalog/live.ts";
import { writeSnapshot } from "./catalog/snapshot-file.ts";
import { check } from "./check.ts";
import { explain } from "./explain.ts";
import { impact } from "./impact/impact.ts";
import { mutate } from "./mutate/command.ts";
import { policiesFolder } from "./sources.ts";
import { test } from "./test/command.ts";

const usage = "usage: bun run policy build|check|test|mutate|explain|impact|catalog";

/** @returns the exit code */
async function run(command: string | undefined, rest: readonly string[]): Promise<number> {
  switch (command) {
    case "build":
      console.log(`built ${await build(rest)}`);
      return 0;
    case "check":
      return check(policiesFolder);
    case "test":
      return await test(rest);
    case "mutate":
      return await mutate(rest);
    case "catalog": {
      // For `explain --catalog`: the names of a live database, as a file.
      const [url] = rest;
      if (url === undefined) throw new Error("usage: bun run policy catalog postgres://… > catalog.json");
      process.stdout.write(writeSnapshot((await readLiveCatalog(optionsOfUrl(url))).snapshot));
      return 0;
    }
    case "explain":
      return await explain(rest);
    case "impact":
      return await impact(rest);
    default:
      console.error(usage);
      return 2;
  }
}

const [command, ...rest] = process.argv.slice(2);
try {
  process.exit(await run(command, rest));
} catch (error) {
  // What is wrong with sources, data or options is said in words; anything else is a fault, and shows where it is.
  if (!(error instanceof GatewayError) && (error as Error).constructor !== Error) throw error;
  console.error((error as Error).message);
  process.exit(1);
}

/** `bun run policy build|check|test`: what policy authors run. */
import { policiesFolder } from "./build.ts";
import { build } from "./build-command.ts";
import { optionsOfUrl, readLiveCatalog } from "./catalog/live.ts";
import { writeSnapshot } from "./catalog/snapshot-file.ts";
import { check } from "./check.ts";
import { explain } from "./explain.ts";
import { impact } from "./impact/impact.ts";
import { mutate } from "./mutate/command.ts";
import { test } from "./test/command.ts";

const usage = "usage: bun run policy build|check|test|mutate|explain|impact|catalog";

const [command, ...rest] = process.argv.slice(2);
switch (command) {
  case "build":
    console.log(`built ${await build(rest)}`);
    break;
  case "check":
    process.exit(check(policiesFolder));
    break;
  case "test":
    process.exit(await test(rest));
    break;
  case "mutate":
    process.exit(await mutate(rest));
    break;
  case "catalog": {
    // For `explain --catalog`: the names of a live database, as a file.
    const [url] = rest;
    if (url === undefined) throw new Error("usage: bun run policy catalog postgres://… > catalog.json");
    process.stdout.write(writeSnapshot((await readLiveCatalog(optionsOfUrl(url))).snapshot));
    break;
  }
  case "explain":
    process.exit(await explain(rest));
    break;
  case "impact":
    process.exit(await impact(rest));
    break;
  default:
    console.error(usage);
    process.exit(2);
}

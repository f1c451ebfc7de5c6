/** `bun run policy build|check|test`: what policy authors run. */
import { resolve } from "node:path";
import { policiesFolder } from "./build.ts";
import { build } from "./build-command.ts";
import { optionsOfUrl, readLiveCatalog } from "./catalog/live.ts";
import { writeSnapshot } from "./catalog/snapshot-file.ts";
import { explain } from "./explain.ts";
import { impact } from "./impact/impact.ts";
import { mutate } from "./mutate/command.ts";
import { test } from "./test/command.ts";
import { resolveOpa } from "./toolchain.ts";

const usage = "usage: bun run policy build|check|test|mutate|explain|impact|catalog";

/** Runs OPA in the policies' folder; its output is the user's. */
function opa(...args: string[]): number {
  const run = Bun.spawnSync([resolveOpa(), ...args], { cwd: policiesFolder, stdout: "inherit", stderr: "inherit" });
  return run.exitCode;
}

function check(): number {
  const formatted = opa("fmt", "--fail", "--list", ".");
  if (formatted !== 0) console.error("not formatted: run `opa fmt -w policies`");
  const checked = opa(
    "check",
    "--strict",
    "--capabilities",
    resolve(policiesFolder, "capabilities.json"),
    "--ignore",
    "dist",
    ".",
  );
  return formatted || checked;
}

const [command, ...rest] = process.argv.slice(2);
switch (command) {
  case "build":
    console.log(`built ${await build(rest)}`);
    break;
  case "check":
    process.exit(check());
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

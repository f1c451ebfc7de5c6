import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { limits } from "../limits.ts";
import { FileWatch } from "./file-watch.ts";

let folder: string;
let watched: FileWatch | undefined;
let told: number;
const path = (name: string) => join(folder, name);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sallyport-watch-"));
  writeFileSync(path("bundle"), "1");
  writeFileSync(path("data"), "1");
  told = 0;
});

afterEach(() => {
  watched?.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function watch(...names: string[]): Promise<void> {
  watched = new FileWatch(names.map(path), () => told++);
  await watched.ready;
}

/** Waits until it was told of that many changes, and then long enough for one too many. */
async function expectTold(count: number): Promise<void> {
  const deadline = performance.now() + 5_000;
  while (told < count && performance.now() < deadline) await Bun.sleep(10);
  await Bun.sleep(limits.policyLookMs + 2 * limits.policySettleMs);
  expect(told).toBe(count);
}

function renameOver(name: string, content: string): void {
  writeFileSync(path("new"), content);
  renameSync(path("new"), path(name));
}

test("tells once of a file that is written anew, renamed over, removed and there again", async () => {
  await watch("bundle", "data");
  writeFileSync(path("bundle"), "2");
  await expectTold(1);
  renameOver("data", "2");
  await expectTold(2);
  rmSync(path("data"));
  await expectTold(3);
  renameOver("data", "2");
  await expectTold(4);
});

test("tells of a change that leaves size and time as they were", async () => {
  utimesSync(path("data"), 1, 1);
  await watch("data");
  writeFileSync(path("data"), "2");
  utimesSync(path("data"), 1, 1);
  await expectTold(1);
});

test("waits until who writes is done", async () => {
  await watch("bundle");
  truncateSync(path("bundle"));
  for (let part = 0; part < 10; part++) {
    appendFileSync(path("bundle"), "part");
    await Bun.sleep(limits.policySettleMs / 2);
    expect(told).toBe(0);
  }
  const doneMs = performance.now();
  while (told === 0 && performance.now() - doneMs < limits.policySettleMsMax) await Bun.sleep(10);
  expect(performance.now() - doneMs).toBeLessThan(limits.policySettleMsMax / 2);
  await expectTold(1);
});

test("does not wait for ever for a file that never settles", async () => {
  await watch("bundle");
  const startedMs = performance.now();
  while (told === 0 && performance.now() - startedMs < 5_000) {
    appendFileSync(path("bundle"), "part");
    await Bun.sleep(20);
  }
  expect(performance.now() - startedMs).toBeGreaterThanOrEqual(limits.policySettleMsMax - limits.policySettleMs);
  expect(told).toBe(1);
});

test("tells of a link that was turned to another folder, as Kubernetes does it", async () => {
  for (const version of ["1", "2"]) {
    mkdirSync(path(version));
    writeFileSync(join(path(version), "data.yaml"), version);
  }
  symlinkSync("1", path("..data"));
  symlinkSync("..data/data.yaml", path("data.yaml"));
  await watch("data.yaml");
  symlinkSync("2", path("..data.new"));
  renameSync(path("..data.new"), path("..data"));
  await expectTold(1);
});

test("tells of a link's target that changes in a folder that is not watched", async () => {
  mkdirSync(path("elsewhere"));
  writeFileSync(path("elsewhere/data"), "1");
  mkdirSync(path("here"));
  symlinkSync("../elsewhere/data", path("here/data"));
  await watch("here/data");
  writeFileSync(path("elsewhere/data"), "2");
  await expectTold(1);
});

test("tells of a file whose whole folder comes later, or is replaced", async () => {
  await watch("later/data");
  mkdirSync(path("later"));
  writeFileSync(path("later/data"), "1");
  await expectTold(1);
  mkdirSync(path("next"));
  writeFileSync(path("next/data"), "2");
  renameSync(path("later"), path("before"));
  renameSync(path("next"), path("later"));
  await expectTold(2);
});

test("says nothing of another file of the folder, nor once it is stopped", async () => {
  await watch("bundle");
  renameOver("other", "1");
  symlinkSync("bundle", path("link"));
  await expectTold(0);
  renameOver("bundle", "2");
  watched?.stop();
  await expectTold(0);
});

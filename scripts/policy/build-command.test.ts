/** A bundle that is not the committed one says which commit its sources are of. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { loadBundle } from "../../gateway/policy/bundle.ts";
import { shortCommit } from "../../gateway/policy/commit.ts";
import { copyCheckout } from "./test/checkout.ts";

const checkout = copyCheckout();
let commit: string;

function git(...line: string[]): string {
  const settings = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
  return Bun.spawnSync(["git", ...settings, ...line], { cwd: checkout.folder })
    .stdout.toString()
    .trim();
}

async function built(...options: string[]) {
  const { code, out } = await checkout.policy("build", ...options);
  expect([code, code === 0 ? "" : out]).toEqual([0, ""]);
  return (await loadBundle({ bundle: join(checkout.folder, "built.tar.gz") })).revision;
}

beforeAll(() => {
  writeFileSync(join(checkout.folder, ".gitignore"), "node_modules\n*.tar.gz\n");
  git("init", "--quiet");
  git("add", "-A");
  git("commit", "-m", "all");
  commit = git("rev-parse", "HEAD");
});
afterAll(() => checkout.remove());

test("git's commit is in it, a dirty tree says so, and what is no source makes none dirty", async () => {
  const { digest, ...rest } = await built("-o", "built.tar.gz");
  expect(rest).toMatchObject({ commit });
  appendFileSync(join(checkout.folder, "policies/README.md"), "more\n");
  appendFileSync(join(checkout.folder, "policies/main_test.rego"), "# more\n");
  expect(await built("-o", "built.tar.gz")).toMatchObject({ digest, commit });
  appendFileSync(join(checkout.folder, "policies/data.yaml"), "more: 1\n");
  const dirty = await built("-o", "built.tar.gz");
  expect(dirty).toMatchObject({ commit: `${commit}-dirty` });
  expect(dirty.digest).not.toBe(digest);
  expect(shortCommit(dirty.commit ?? "")).toBe(`${commit.slice(0, 12)}-dirty`);
  git("checkout", "policies");
}, 60_000);

test("a commit may be given, in full", async () => {
  const given = "ab".repeat(20);
  expect(await built("-o", "built.tar.gz", "--commit", given)).toMatchObject({ commit: given });
  const { code, out } = await checkout.policy("build", "-o", "built.tar.gz", "--commit", "abc");
  expect([code, out]).toEqual([1, "--commit abc: expected its full name\n"]);
}, 60_000);

test("the committed bundle names none, since it is part of one", async () => {
  const path = join(checkout.folder, "policies/dist/bundle.tar.gz");
  const before = readFileSync(path);
  expect((await checkout.policy("build")).code).toBe(0);
  expect(readFileSync(path).equals(before)).toBe(true);
  expect((await checkout.policy("build", "--commit", commit)).code).toBe(2);
}, 60_000);

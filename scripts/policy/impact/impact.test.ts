/** The command as it is run: revisions by name, formats, exit codes. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { loadBundle } from "../../../gateway/policy/bundle.ts";
import { Policy } from "../../../gateway/policy/policy.ts";
import { defaultBundle } from "../build.ts";
import { policiesFolder, sourceRevision } from "../sources.ts";
import { generateStore } from "./generated-store.ts";
import { bundleOf, commitOf, pastData, withPoliciesOf } from "./policy-of-commit.ts";

setDefaultTimeout(60_000);
const folder = mkdtempSync(join(tmpdir(), "sallyport-impact-"));
const store = join(folder, "store.db");
const data = join(folder, "head.yaml");
const none = join(folder, "none.yaml");

beforeAll(async () => {
  const policy = new Policy(await loadBundle({ bundle: defaultBundle }));
  await generateStore({ file: store, policy, commands: 200, commandsPerSession: 20, statements: 60, seed: 3 });
  writeFileSync(data, "labels: { pii: { mask: hash } }\n");
  writeFileSync(none, "{}\n");
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function run(...line: readonly string[]) {
  const main = resolve(import.meta.dir, "../main.ts");
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, main, "impact", ...line]);
  return { exitCode, out: stdout.toString(), err: stderr.toString() };
}
const where = () => ["--base", defaultBundle, "--head", defaultBundle, "--store", store, "--data", data];

test("the exit code says ok, changes that were named, what could not be read, and a wrong line", () => {
  const same = run(...where(), "--fail-on", "allow,unmask");
  expect([same.exitCode, same.err]).toEqual([0, ""]);
  expect(same.out).toContain("0 commands would be decided otherwise");
  const weaker = [...where(), "--base-data", none];
  expect(run(...weaker).exitCode).toBe(0);
  const gated = run(...weaker, "--fail-on", "allow,unmask");
  expect(gated.exitCode).toBe(3);
  expect(gated.out).toContain("public.customers.email: partial → hash");
  expect(run(...weaker, "--fail-on", "allow").exitCode).toBe(0);
  expect(run(...weaker, "--since", "2999-01-01", "--fail-on", "allow").exitCode).toBe(4);
  expect(run(...weaker, "--fail-on", "anything").exitCode).toBe(2);
  expect(run("--store", store).exitCode).toBe(2);
  const missing = run("--base", defaultBundle, "--store", join(folder, "missing.db"));
  expect([missing.exitCode, missing.err]).toEqual([1, expect.stringContaining("no store at")]);
  const unknown = run("--base", "--output=x", "--store", store);
  expect(unknown.exitCode).toBe(2);
  expect(run("--base=no-such-ref", "--store", store).err).toContain("neither a bundle's file nor a commit");
});

test("each change is written as a line, and the formats agree on how many there are", () => {
  const listed = join(folder, "changes.jsonl");
  const weaker = [...where(), "--base-data", none];
  const json = JSON.parse(run(...weaker, "--format", "json", "--changes", listed).out);
  const lines = readFileSync(listed, "utf8").trimEnd().split("\n");
  expect(lines).toHaveLength(json.changed);
  expect(json.changed).toBeGreaterThan(0);
  expect(json.kinds[0]).toMatchObject({ kind: "unmask", commands: json.changed });
  const markdown = run(...weaker, "--format", "markdown").out;
  expect(markdown).toContain(`**unmask** | ${json.changed} commands`);
  expect(markdown).toContain("<details>");
});

test("a commit's policies come out of git, its own bundle is used where it is of its sources", async () => {
  const repository = join(folder, "repository");
  cpSync(policiesFolder, join(repository, "policies"), { recursive: true });
  const git = (...line: readonly string[]) => {
    const identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"];
    const { exitCode, stderr } = Bun.spawnSync(["git", "-C", repository, ...identity, ...line]);
    expect([exitCode, stderr.toString()]).toEqual([0, expect.anything()]);
  };
  git("init", "--quiet");
  git("add", ".");
  git("commit", "--quiet", "-m", "one");
  const first = commitOf("HEAD", repository);
  const yaml = join(repository, "policies/data.yaml");
  writeFileSync(yaml, readFileSync(yaml, "utf8").replace("approvers: [dba]", "approvers: [people]"));
  git("commit", "--quiet", "-a", "-m", "two");
  const second = commitOf("HEAD", repository);
  expect(second).not.toBe(first);
  const bytes = (commit: string) => withPoliciesOf(commit, bundleOf, repository);
  expect(Buffer.from(await bytes(first)).equals(readFileSync(defaultBundle))).toBe(true);
  writeFileSync(join(folder, "second.tar.gz"), await bytes(second));
  const compiled = await loadBundle({ bundle: join(folder, "second.tar.gz") });
  expect(compiled.revision.digest).toBe(sourceRevision(join(repository, "policies")));
  expect(compiled.data.approvers).toEqual(["people"]);
  const past = await pastData([second], repository);
  expect([...past.keys()]).toEqual([compiled.revision.digest, sourceRevision(policiesFolder)]);
  expect(() => commitOf("--all", repository)).toThrow("neither a bundle's file nor a commit");
});

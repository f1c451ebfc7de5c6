/** What is ready for CI: the files are what their systems take, and each policy command in them does what it must. */
import { afterAll, expect, test } from "bun:test";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseDocument } from "yaml";
import { z } from "zod";
import { copyCheckout } from "../policy/test/checkout.ts";

const githubSchema = z.strictObject({
  name: z.string(),
  on: z.strictObject({ pull_request: z.object({ paths: z.array(z.string()) }), workflow_dispatch: z.null() }),
  permissions: z.strictObject({ contents: z.literal("read") }),
  concurrency: z.object({ group: z.string() }),
  defaults: z.object({ run: z.object({ shell: z.literal("bash") }) }),
  jobs: z.record(
    z.string(),
    z.strictObject({
      if: z.string().optional(),
      needs: z.string().optional(),
      "runs-on": z.string(),
      "timeout-minutes": z.int(),
      permissions: z.record(z.string(), z.enum(["read", "write"])).optional(),
      steps: z.array(
        z.strictObject({
          if: z.string().optional(),
          uses: z
            .string()
            .regex(/^[\w-]+\/[\w-]+@v\d+$/)
            .optional(),
          with: z.record(z.string(), z.unknown()).optional(),
          env: z.record(z.string(), z.string()).optional(),
          run: z.string().optional(),
        }),
      ),
    }),
  ),
});
const gitlabJob = z.strictObject({
  image: z.string().optional(),
  extends: z.literal(".policy").optional(),
  needs: z.array(z.string()).optional(),
  variables: z.record(z.string(), z.string()).optional(),
  rules: z
    .array(
      z
        .strictObject({ if: z.string(), changes: z.array(z.string()), when: z.string(), allow_failure: z.boolean() })
        .partial(),
    )
    .optional(),
  cache: z.object({ key: z.object({ files: z.array(z.string()) }), paths: z.array(z.string()) }).optional(),
  before_script: z.array(z.string()).optional(),
  script: z.array(z.string()).optional(),
  artifacts: z.object({ when: z.literal("always"), reports: z.object({ junit: z.string() }) }).optional(),
});

function read(name: string): unknown {
  const document = parseDocument(readFileSync(join(import.meta.dir, name), "utf8"), { uniqueKeys: true, strict: true });
  expect(document.errors).toEqual([]);
  return document.toJS();
}

const github = githubSchema.parse(read("github-policy.yaml"));
const gitlab = z.record(z.string(), gitlabJob).parse(read("gitlab-policy.yaml"));
const scripts = {
  github: Object.values(github.jobs).flatMap(({ steps }) => steps.flatMap(({ run }) => run ?? [])),
  gitlab: Object.values(gitlab).flatMap((job) => [...(job.before_script ?? []), ...(job.script ?? [])]),
};
const checkout = copyCheckout();
afterAll(() => checkout.remove());

test("jobs need what is there, and scripts are shell without text of a pull request pasted into them", () => {
  for (const { needs } of Object.values(github.jobs)) if (needs) expect(github.jobs).toHaveProperty(needs);
  for (const job of Object.values(gitlab)) for (const need of job.needs ?? []) expect(gitlab).toHaveProperty(need);
  for (const step of Object.values(github.jobs).flatMap(({ steps }) => steps)) {
    expect([step.uses, step.run].filter((one) => one !== undefined).length).toBe(1);
  }
  for (const script of [...scripts.github, scripts.gitlab.join("\n")]) {
    expect(script).not.toContain("${{");
    const parsed = Bun.spawnSync(["bash", "-n", "-c", script], { stderr: "pipe" });
    expect(parsed.stderr.toString()).toBe("");
  }
});

test("recordings are not for forks, and only the job that comments may write", () => {
  expect(github.jobs.impact?.if).toContain("head.repo.full_name == github.repository");
  expect(
    gitlab["policy-impact"]?.rules?.every((rule) => rule.if?.includes("SOURCE_PROJECT_ID == $CI_PROJECT_ID")),
  ).toBe(true);
  const writing = Object.entries(github.jobs).filter(([, job]) =>
    Object.values(job.permissions ?? {}).includes("write"),
  );
  expect(writing.map(([name]) => name)).toEqual(["impact"]);
  for (const [name, job] of Object.entries(github.jobs)) {
    expect([name, JSON.stringify(job).includes("secrets.")]).toEqual([name, name === "impact"]);
  }
});

test("check, test with coverage, and build pass as they are written there; mutate and impact are commands", async () => {
  for (const [system, all] of Object.entries(scripts)) {
    const lines = all.flatMap((script) => script.split("\n")).filter((line) => line.includes("run policy"));
    const commands = lines.map((line) => /bun run policy (.*)$/.exec(line.trim())?.[1] ?? "");
    expect([system, commands.map((line) => line.split(" ")[0])]).toEqual([
      system,
      ["check", "test", "build", "mutate", "impact"],
    ]);
    for (const command of commands.slice(0, 3)) {
      const { code, out } = await checkout.policy(...command.split(" "));
      expect([command, code === 0 ? "" : out]).toEqual([command, ""]);
    }
  }
  expect((await checkout.policy("mutate", "--help")).code).toBe(0);
}, 120_000);

test("the pre-commit hook passes what is right, and stops a broken rule and a stale bundle", () => {
  const { folder } = checkout;
  const git = (...line: string[]) => {
    const settings = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "core.hooksPath=.git/hooks"];
    const run = Bun.spawnSync(["git", ...settings, ...line], {
      cwd: folder,
      env: { ...process.env, PATH: `${join(folder, "bin")}:${process.env.PATH}`, OPA_BIN: checkout.opa },
      stdout: "pipe",
      stderr: "pipe",
    });
    return { code: run.exitCode, out: run.stdout.toString() + run.stderr.toString() };
  };
  mkdirSync(join(folder, "bin"));
  symlinkSync(process.execPath, join(folder, "bin/bun"));
  writeFileSync(join(folder, ".gitignore"), "node_modules\nbin\n");
  git("init", "--quiet");
  symlinkSync("../../scripts/deploy/pre-commit", join(folder, ".git/hooks/pre-commit"));
  git("add", "-A");
  const first = git("commit", "-m", "all");
  expect([first.code, first.code === 0 ? "" : first.out]).toEqual([0, ""]);

  writeFileSync(join(folder, "other.txt"), "x");
  git("add", "other.txt");
  const other = git("commit", "-m", "nothing of policy");
  expect([other.code, other.out.includes("fixture sessions")]).toEqual([0, false]);

  const rule = join(folder, "policies/writes/writes.rego");
  const source = readFileSync(rule, "utf8");
  writeFileSync(rule, source.replace("not statement.bounded", "statement.bounded"));
  git("add", "-A");
  const broken = git("commit", "-m", "broken");
  expect(broken.code).toBe(1);
  expect(broken.out).toContain("expected deny writes.unbounded");

  writeFileSync(rule, source.replace("without a WHERE on", "without a condition on"));
  const fixtures = join(folder, "fixtures/sessions/writes.yaml");
  writeFileSync(
    fixtures,
    readFileSync(fixtures, "utf8").replaceAll(/says: (\w+) without a WHERE/g, "says: $1 without a"),
  );
  git("add", "-A");
  const stale = git("commit", "-m", "stale");
  expect(stale.out).toContain("was not what the sources compile to");
  git("add", "-A");
  const built = git("commit", "-m", "built");
  expect([built.code, built.code === 0 ? "" : built.out]).toEqual([0, ""]);
}, 120_000);

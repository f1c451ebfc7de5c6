/** `policy explain` as its user runs it: what policy saw, the rules with their places, the verdict and the masks. */
import { expect, test } from "bun:test";
import { join } from "node:path";

async function explain(...line: string[]): Promise<string> {
  const run = Bun.spawn([process.execPath, join(import.meta.dir, "main.ts"), "explain", ...line], {
    stdout: "pipe",
    stderr: "inherit",
  });
  const out = await new Response(run.stdout).text();
  expect(await run.exited).toBe(0);
  return out;
}
const analyst = ["--as", "ann@example.com", "--groups", "analysts", "--on", "demo"];

test("a command shows its analysis, each rule with file and line, and the masks", async () => {
  const out = await explain("select ssn, email from customers", ...analyst);
  expect(out).toMatch(/^ {2}output +public\.customers\.ssn {2}\[secret\]$/m);
  expect(out).toMatch(/^verdict {3}mask$/m);
  expect(out).toMatch(/^ {2}labels\.secret: .*\n .*\/policies\/labels\/labels\.rego:\d+$/m);
  expect(out).toContain("mask public.customers.email with partial");
});

test("a held command shows who may approve, and the rule of its own id", async () => {
  const as = "{ email: b@example.com, groups: [oncall], kind: agent }";
  const out = await explain("update orders set id = 1 where id = 2", "--as", as, "--on", "demo", "--json");
  const { verdict, rules, approval } = JSON.parse(out) as {
    verdict: string;
    rules: { id: string; at: string }[];
    approval: unknown;
  };
  expect([verdict, approval]).toEqual(["approve", { from: ["dba"], count: 1, ttl: "15m" }]);
  expect(rules.map(({ id }) => id)).toEqual(["agents.novel", "agents.write"]);
  expect(rules[0]?.at).not.toBe(rules[1]?.at);
});

test("a session that does not open shows the rule that refuses it", async () => {
  const out = await explain("select 1", "--as", "eve@example.com", "--on", "demo");
  expect(out).toMatch(/verdict {3}deny\n {2}access\.target: .*eve@example\.com.*\n .*\/policies\/main\.rego:\d+/);
});

test("names that whoever wrote the command chose cannot drive the terminal", async () => {
  const command = 'select "\x1b[2J"(1) from "\x9b\u202e"';
  expect(await explain(command, ...analyst)).toMatch(/^[\n\x20-\x7e]*\\x1b\[2J[\n\x20-\x7e]*$/);
  expect(await explain(command, ...analyst, "--json")).toMatch(/^[\n\x20-\x7e]*$/);
});

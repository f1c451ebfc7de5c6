/** The demo as its user runs it: every step shows what it must, it stays up for psql, and it leaves nothing behind. */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { hasPsql } from "../postgres/installed.ts";
import { runPsql } from "../postgres/psql.ts";

const script = join(import.meta.dir, "run.ts");

test("--once shows each step and exits 0", async () => {
  const demo = Bun.spawn([process.execPath, script, "--once"], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [out, errors] = await Promise.all([new Response(demo.stdout).text(), new Response(demo.stderr).text()]);
  expect(errors).toBe("");
  expect(await demo.exited).toBe(0);
  expect(out).toContain("[redacted]");
  expect(out).toContain("access.class: reporter@example.com has no ddl access to demo");
  expect(out).toMatch(/held for approval (\S+):[\s\S]+\1 is approved\.\nUPDATE 1/);
  expect(out).toContain("COPY may not read public.customers.ssn");
  expect(out).toMatch(/ok {5}\S+ {2}\d+ events/);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: no colours where nobody looks.
  expect(out).not.toMatch(/\x1b/);
}, 60_000);

test("a terminal that is closed, which hangs up on every process in it, ends all of it", async () => {
  const demo = Bun.spawn([process.execPath, script], {
    ...{ stdin: "ignore", stdout: "pipe", stderr: "inherit", detached: true },
  });
  let out = "";
  for await (const chunk of demo.stdout) {
    out += new TextDecoder().decode(chunk);
    if (out.includes("Ctrl-C")) break;
  }
  const [, api = ""] = /^API +(\S+)/m.exec(out) ?? [];
  expect((await fetch(`${api}/healthz`)).ok).toBe(true);
  process.kill(-demo.pid, "SIGHUP");
  expect(await demo.exited).toBe(0);
  await expect(fetch(`${api}/healthz`)).rejects.toThrow();
}, 60_000);

test.skipIf(!hasPsql)(
  "it stays up, its psql line works, and a signal ends all of it",
  async () => {
    const demo = Bun.spawn([process.execPath, script], { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
    let out = "";
    const decoder = new TextDecoder();
    for await (const chunk of demo.stdout) {
      out += decoder.decode(chunk);
      if (out.includes("Ctrl-C")) break;
    }
    const [, token = "", conninfo = "", port = ""] =
      /PGPASSWORD=\$\(cat '?(.+?)'?\) \\\n\s+psql "(host=127\.0\.0\.1 port=(\d+) [^"]+)"/.exec(out) ?? [];
    const seen = await runPsql(conninfo, await Bun.file(token).text(), "select ssn from customers limit 1;\n");
    expect(seen).toEqual({ out: expect.stringContaining("[redacted]"), err: "" });
    demo.kill("SIGTERM");
    expect(await demo.exited).toBe(0);
    expect(existsSync(token)).toBe(false);
    expect((await runPsql(conninfo, "x", "select 1;\n")).err).toContain("Connection refused");
    expect(Number(port)).toBeGreaterThan(0);
  },
  60_000,
);

import { expect, test } from "bun:test";
import { join } from "node:path";

async function policy(...line: string[]) {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "main.ts"), ...line], {
    env: { PATH: process.env.PATH ?? "", HOME: "/nonexistent", SALLYPORT_GATEWAY: "http://127.0.0.1:1" },
    ...{ stdin: "ignore", stdout: "pipe", stderr: "pipe" },
  });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, out, err };
}

test("every command has its help, on standard output", async () => {
  expect(await policy("--help")).toEqual({ code: 0, out: expect.stringContaining("explain  one command"), err: "" });
  for (const command of ["build", "check", "test", "mutate", "explain", "impact", "catalog"]) {
    const { code, out, err } = await policy(command, "--help");
    expect([command, code, err]).toEqual([command, 0, ""]);
    expect(out).toStartWith(`usage: bun run policy ${command}`);
  }
}, 60_000);

test("a wrong line says what is wrong with its usage, and exits 2", async () => {
  for (const [line, said] of [
    [[], "it needs a command"],
    [["nosuch"], 'there is no command "nosuch"'],
    [["build", "--nosuch"], "Unknown option '--nosuch'"],
    [["build", "--scope", "prod"], "that goes with --signing-key"],
    [["check", "extra"], 'unexpected argument "extra"'],
    [["mutate", "--nosuch"], "Unknown option '--nosuch'"],
    [["explain", "select 1", "--as"], "Option '--as <value>' argument missing"],
    [["explain", "select 1"], "it needs '<sql>', --as and --on"],
    [["explain", "select 1", "--on", "demo", "--as", "{"], "--as: Flow map must end with a }"],
    [["explain", "select 1", "--on", "demo", "--as", "{x: 1}"], '--as: Unrecognized key: "x"'],
    [["explain", "--session", "s", "--command", "abc"], "a recorded command is --session <id> and --command <n>"],
    [["catalog"], "it needs an address"],
  ] as const) {
    const { code, out, err } = await policy(...line);
    expect([line, code, out]).toEqual([line, 2, ""]);
    expect(err).toStartWith(said);
    expect(err).toContain("\n\nusage: bun run policy");
  }
}, 60_000);

test("what cannot be reached or read is said in words, without a secret and without a stack", async () => {
  const explain = ["explain", "select 1", "--as", "ada", "--on", "demo", "--connect"];
  for (const [line, said] of [
    [[...explain, "host=db password=hunter2"], "a live database is named as postgres://user"],
    [[...explain, "postgres://u:hunter2@127.0.0.1:1/app"], "127.0.0.1:1: the target cannot be reached"],
    [["explain", "--session", "s", "--command", "1"], "Nobody is logged in.\nRun `sallyport login`."],
  ] as const) {
    const found = await policy(...line);
    expect([found.code, found.out, found.err]).toEqual([1, "", expect.stringContaining(said)]);
    expect(found.err).not.toMatch(/\n\s+at |hunter2/);
  }
}, 60_000);

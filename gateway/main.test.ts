/** The gateway as a process, while it starts: its line, and signals that come before it is up. */
import { afterAll, afterEach, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dir, "..");
const folder = mkdtempSync(join(tmpdir(), "sallyport-main-"));
const bundle = readFileSync(join(root, "policies/dist/bundle.tar.gz"));
const log = join(folder, "log");
let child: Bun.Subprocess | undefined;
afterEach(() => child?.kill("SIGKILL"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function start(...line: string[]) {
  child = Bun.spawn([process.execPath, join(root, "gateway/main.ts"), ...line], {
    env: { PATH: process.env.PATH ?? "", HOME: folder },
    ...{ stdin: "ignore", stdout: "ignore", stderr: Bun.file(log) },
  });
  return child;
}

async function logged(text: string): Promise<void> {
  while (!readFileSync(log, "utf8").includes(text)) await Bun.sleep(5);
}

/** A start that waits for its bundle, which `serve` lets it have. */
async function starting(...line: string[]) {
  const asked = Promise.withResolvers<void>();
  const served = Promise.withResolvers<void>();
  let requests = 0;
  const server = Bun.serve({
    ...{ port: 0, hostname: "127.0.0.1" },
    async fetch() {
      requests += 1;
      asked.resolve();
      await served.promise;
      return new Response(bundle);
    },
  });
  const path = join(folder, "gateway.yaml");
  const target = { name: "db", kind: "postgres", address: "127.0.0.1:1", database: "app", credential: { user: "u" } };
  writeFileSync(
    path,
    JSON.stringify({
      ...{ listen: { http: "127.0.0.1:0" }, targets: [target], policies: { bundle: `${server.url.origin}/b.tar.gz` } },
      identity: { issuers: [{ issuer: "https://idp.example", audience: "sallyport" }] },
    }),
  );
  writeFileSync(log, "");
  const gateway = start("--config", path, ...line);
  await asked.promise;
  return { gateway, serve: served.resolve, requests: () => requests, [Symbol.dispose]: () => void server.stop(true) };
}

test("a line that is not known shows usage and exits 2, without a stack", async () => {
  for (const line of [["--nosuch"], ["--config"], ["extra"], ["--check=1"]]) {
    const code = await start(...line).exited;
    const err = readFileSync(log, "utf8");
    expect([line, code, err]).toEqual([line, 2, expect.stringContaining("Usage: bun run gateway [options]")]);
    expect(err).not.toMatch(/\n\s+at |"stack"/);
  }
}, 30_000);

test("a port that another has, an address that is elsewhere and a folder that cannot be made are named, without a stack", async () => {
  using taken = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
  const path = join(folder, "refused.yaml");
  const target = { name: "db", kind: "postgres", address: "127.0.0.1:1", database: "app", credential: { user: "u" } };
  const address = `127.0.0.1:${taken.port}`;
  for (const [more, said] of [
    [{ listen: { http: address } }, `listen.http: ${address} cannot be listened on: another process listens there`],
    [{ listen: { postgres: address } }, `listen.postgres: ${address} cannot be listened on: another process`],
    [{ listen: { postgres: "192.0.2.1:6432" } }, "192.0.2.1:6432 cannot be listened on: the address is none of this"],
    [{ store: { url: "file:/proc/nothing/store.db" } }, "The store's folder /proc/nothing cannot be made: ENOENT"],
  ] as const) {
    writeFileSync(
      path,
      JSON.stringify({
        ...{ listen: { http: "127.0.0.1:0" }, targets: [target], store: { url: "file:refused/store.db" } },
        policies: { bundle: join(root, "policies/dist/bundle.tar.gz") },
        identity: { issuers: [{ issuer: "https://idp.example", audience: "sallyport" }] },
        ...more,
      }),
    );
    writeFileSync(log, "");
    const code = await start("--config", path).exited;
    const err = readFileSync(log, "utf8");
    expect([code, err]).toEqual([1, expect.stringContaining(said)]);
    expect(err).not.toMatch(/\n\s+at |"stack"/);
  }
}, 60_000);

test("SIGTERM while it starts ends it as one that stops, and a check as one that found nothing good", async () => {
  for (const [line, code] of [
    [[], 0],
    [["--check"], 1],
  ] as const) {
    using run = await starting(...line);
    run.gateway.kill("SIGTERM");
    expect([line, await run.gateway.exited]).toEqual([line, code]);
  }
}, 30_000);

test("SIGHUP while it starts is no end: it comes up, and looks at its policy once more", async () => {
  using run = await starting();
  run.gateway.kill("SIGHUP");
  await Bun.sleep(100);
  run.serve();
  await logged('"listening"');
  while (run.requests() < 2) await Bun.sleep(20);
  run.gateway.kill("SIGTERM");
  expect(await run.gateway.exited).toBe(0);
}, 30_000);

test("SIGTERM while the recording is opened closes it, and leaves a store that another start takes", async () => {
  rmSync(join(folder, "data"), { recursive: true, force: true });
  using run = await starting();
  run.serve();
  while (!existsSync(join(folder, "data/sallyport.db.lock"))) await Bun.sleep(1);
  run.gateway.kill("SIGTERM");
  expect(await run.gateway.exited).toBe(0);
  using again = await starting();
  again.serve();
  await logged('"listening"');
}, 30_000);

/** `gateway --check` and a start, as their operator runs them: what cannot work is refused by both, and named. */
import { afterAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dir, "..");
const folder = mkdtempSync(join(tmpdir(), "sallyport-preflight-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const selfSigned = (name: string) => {
  const files = ["-keyout", join(folder, `${name}.key`), "-out", join(folder, `${name}.crt`)];
  const options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"];
  Bun.spawnSync(["openssl", "req", ...options, ...files], { stdout: "ignore", stderr: "ignore" });
};
selfSigned("one");
selfSigned("other");
writeFileSync(join(folder, "garbage"), "garbage");
writeFileSync(join(folder, "empty"), "");
writeFileSync(join(folder, "password"), "secret\n");
writeFileSync(join(folder, "short"), "fifteen bytes !\n");
writeFileSync(join(folder, "long"), "sixteen bytes !!\n");
mkdirSync(join(folder, "folder"));
Bun.spawnSync(["mkfifo", join(folder, "pipe")]);

async function gateway(more: Record<string, unknown>, target: Record<string, unknown>, ...options: string[]) {
  const path = join(folder, "gateway.yaml");
  const address = {
    address: "127.0.0.1:1",
    database: "app",
    credential: { user: "u", password: { file: "password" } },
  };
  writeFileSync(
    path,
    JSON.stringify({
      ...{
        listen: { postgres: "127.0.0.1:0" },
        identity: { issuers: [{ issuer: "https://idp.example", audience: "sallyport" }] },
      },
      ...{ policies: { bundle: join(root, "policies/dist/bundle.tar.gz") } },
      targets: [{ name: "db", kind: "postgres", ...address, ...target }],
      ...more,
    }),
  );
  const run = Bun.spawn([process.execPath, join(root, "gateway/main.ts"), "--config", path, ...options], {
    env: { PATH: process.env.PATH ?? "", HOME: folder },
    ...{ stdin: "ignore", stdout: "pipe", stderr: "pipe" },
  });
  const [out, err] = await Promise.all([new Response(run.stdout).text(), new Response(run.stderr).text()]);
  return { code: await run.exited, out, err };
}

const password = (reference: unknown) => ({ credential: { user: "u", password: reference } });
const key = (reference: unknown) => ({ masking: { hash_key: reference } });
const policies = (more: Record<string, string>) => ({
  policies: { bundle: join(root, "policies/dist/bundle.tar.gz"), ...more },
});

test.each([
  [
    "a certificate that is missing",
    { tls: { cert: "nowhere.crt", key: "one.key" } },
    {},
    "tls.cert: F/nowhere.crt cannot",
  ],
  ["one that is garbage", { tls: { cert: "garbage", key: "one.key" } }, {}, "tls.cert: F/garbage is not a certificate"],
  ["a key that is garbage", { tls: { cert: "one.crt", key: "empty" } }, {}, "tls.key: F/empty is not a private key"],
  ["another's key", { tls: { cert: "one.crt", key: "other.key" } }, {}, "tls.key: F/other.key is not the key of"],
  ["authorities that are missing", {}, { ca: "nowhere.crt" }, "targets.0.ca of db: F/nowhere.crt cannot be read"],
  ["authorities that are none", {}, { ca: "empty" }, "targets.0.ca of db: F/empty has no certificate"],
  ["a secret that is not set", {}, password({ env: "SALLYPORT_NOT_SET" }), "variable SALLYPORT_NOT_SET is not set"],
  ["a secret's file that is missing", {}, password({ file: "nowhere" }), "password of target db: F/nowhere cannot be"],
  ["one that is a folder", {}, password({ file: "folder" }), "password of target db: F/folder cannot be read: EISDIR"],
  ["one that is empty", {}, password({ file: "empty" }), "password of target db: F/empty is empty"],
  ["a hash key that is too short", key({ file: "short" }), {}, "masking.hash_key: it has 15 bytes"],
  ["one that is not set", key({ env: "SALLYPORT_NOT_SET" }), {}, "masking.hash_key: the environment variable"],
  ["a bundle that is missing", policies({ bundle: "nowhere" }), {}, "policy bundle: F/nowhere cannot be read: ENOENT"],
  ["one that is none", policies({ bundle: "garbage" }), {}, "unpacked\nThe bundle is F/garbage."],
  ["data that is missing", policies({ data: "nowhere" }), {}, "policy data: F/nowhere cannot be read: ENOENT"],
  ["a store that is a folder", { store: { url: "file:folder" } }, {}, "store.url: F/folder exists and is no store"],
  ["one that is a pipe", { store: { url: "file:pipe" } }, {}, "store.url: F/pipe exists and is no store: no file"],
  ["one that is no database", { store: { url: "file:garbage" } }, {}, "F/garbage exists and is no store: no SQLite"],
  ["one below a file", { store: { url: "file:garbage/x.db" } }, {}, "cannot be made: F/garbage is no folder"],
])("--check refuses %s", async (_, more, target, said) => {
  const { code, out, err } = await gateway(more, target, "--check");
  expect([code, out, err.replaceAll(folder, "F")]).toEqual([1, "", expect.stringContaining(said)]);
});

test("so does a start", async () => {
  const { code, err } = await gateway(key({ file: "short" }), {});
  expect([code, err]).toEqual([1, "masking.hash_key: it has 15 bytes; a key has at least 16\n"]);
});

test("what is there and can be used is good, and a signing key and a store may be missing", async () => {
  const store = { url: "file:data/new.db", recording: { signing_key: "new.key" } };
  const tls = { cert: "one.crt", key: "one.key" };
  const { code, out, err } = await gateway({ tls, store, ...key({ file: "long" }) }, { ca: "other.crt" }, "--check");
  expect([code, out, err]).toEqual([0, expect.stringContaining("are good"), ""]);
});

test("data that names a target which the configuration does not have is good, with a warning that names file and key", async () => {
  writeFileSync(
    join(folder, "data.yaml"),
    "targets:\n  db: {}\n  bd: { labels: { public.a.b: [pii] } }\nrules: { x: { on: { targets: [db, dbb] }, deny: no } }\n",
  );
  const policies = { bundle: join(root, "policies/dist/bundle.tar.gz"), data: "data.yaml" };
  const { code, err } = await gateway({ policies }, {}, "--check");
  const said = err
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const warning = {
    level: "warn",
    message: expect.stringContaining("is it misspelt?"),
    file: join(folder, "data.yaml"),
  };
  expect([code, said]).toEqual([
    0,
    [
      expect.objectContaining({ ...warning, line: 3, key: "targets.bd", targets: ["db"] }),
      expect.objectContaining({ ...warning, line: 4, key: "rules.x.on.targets.1" }),
    ],
  ]);
});

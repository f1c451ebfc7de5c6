import { expect, test } from "bun:test";
import { resolve } from "node:path";
import { parseConfig, readBundleOption } from "./config.ts";
import { limits } from "./limits.ts";

const smallest = {
  listen: { postgres: "127.0.0.1:0" },
  identity: { issuers: [{ issuer: "https://idp.example", audience: "sallyport" }] },
  policies: { bundle: "bundle.tar.gz" },
  targets: [
    { name: "db", kind: "postgres", address: "127.0.0.1:5432", database: "app", credential: { user: "gateway" } },
  ],
};
const parse = (more: Record<string, unknown> = {}) =>
  parseConfig(JSON.stringify({ ...smallest, ...more }), "/tmp/gateway.yaml");

test("what is not said is the limits' own", () => {
  expect(parse().store.recording.rows_bytes_per_command).toBe(limits.recordedRowBytesPerCommand);
  expect(parse().shutdown.drain).toBe(limits.drainMs);
  expect(parse({ shutdown: { drain: "2s" } }).shutdown.drain).toBe(2_000);
});

test("port 0 is any free one, and a port above 65535 is refused", () => {
  const listening = (postgres: string) => parse({ listen: { postgres } }).listen.postgres;
  expect(listening("127.0.0.1:0")).toEqual({ host: "127.0.0.1", port: 0 });
  expect(() => listening("127.0.0.1:65536")).toThrow(/listen\.postgres.*0 to 65535/s);
});

test("a gateway that would listen on nothing is refused", () => {
  expect(() => parse({ listen: {} })).toThrow(":1: listen: nothing would be listened on");
});

test("an alias of nothing is named with its line", () => {
  expect(() => parseConfig("listen: {}\ntls:\n  cert: *nothing\n", "/tmp/gateway.yaml")).toThrow(
    "/tmp/gateway.yaml:3: Unresolved alias",
  );
});

test("what is missing, or is no address, duration or reference to a secret, is said with what is expected", () => {
  const credential = (password: unknown) => ({
    targets: [{ ...smallest.targets[0], credential: { user: "gateway", password } }],
  });
  expect(() => parse(credential("hunter2"))).toThrow(
    "credential.password: a reference, { env: NAME } or { file: path }",
  );
  expect(() => parse(credential({ enw: "X" }))).toThrow("credential.password: a reference, { env: NAME }");
  expect(() => parse({ listen: { postgres: 6432 } })).toThrow('postgres: an address such as "127.0.0.1:6432"');
  expect(() => parse({ shutdown: { drain: 30 } })).toThrow('shutdown.drain: a duration such as "30s"');
  expect(() => parse({ targets: undefined })).toThrow("targets: is missing; expected array");
});

test("two listeners that would take one port are refused", () => {
  const listening = (postgres: string, http: string) => () => parse({ listen: { postgres, http } });
  for (const http of ["127.0.0.1:6432", "localhost:6432", "0.0.0.0:6432", "[::]:6432"])
    expect(listening("127.0.0.1:6432", http)).toThrow(/gateway\.yaml:1: listen\.http: port 6432/);
  for (const http of ["127.0.0.1:6433", "127.0.0.2:6432"]) expect(listening("127.0.0.1:6432", http)).not.toThrow();
  expect(listening("127.0.0.1:0", "127.0.0.1:0")).not.toThrow();
});

test("a store that is a file is named by its path and nothing else", () => {
  const store = (url: string) => parse({ store: { url } }).store.url;
  expect(store("file:data/store.db")).toBe("file:/tmp/data/store.db");
  expect(store("file:///srv/a%20b.db")).toBe("file:/srv/a b.db");
  for (const url of ["file:x.db?mode=memory", "file:x.db#y", "file:a%20b.db", "file://elsewhere/x.db"])
    expect(() => store(url)).toThrow(/gateway\.yaml:1: store\.url: /);
});

test("a store that is a server is named by its address, which has no secret", () => {
  const store = (url: string) => parse({ store: { url } }).store.url;
  for (const url of ["libsql://db.example", "http://127.0.0.1:8081", "https://db.example/one"])
    expect(store(url)).toBe(url);
  for (const url of [
    "libsql://db.example?authToken=hunter2",
    "http://user:hunter2@db.example",
    "https://db.example/?jwt=hunter2",
  ]) {
    expect(() => store(url)).toThrow(/gateway\.yaml:1: store\.url: .*auth_token/);
    expect(() => store(url)).not.toThrow("hunter2");
  }
});

test("a key that is not known is named with its own line", () => {
  const text = `policies: {\n  bundle: b,\n  wach: true }\nlisten: {}\ntrgets: []\n`;
  expect(() => parseConfig(text, "/tmp/g.yaml")).toThrow(/g\.yaml:3: policies: .*"wach"/);
  expect(() => parseConfig(text, "/tmp/g.yaml")).toThrow(/g\.yaml:5: \(the file\): .*"trgets"/);
});

test("a bundle on the command line is a path from where the gateway starts, or an address as the file may name it", () => {
  expect(readBundleOption("one/b.tar.gz")).toBe(resolve("one/b.tar.gz"));
  expect(readBundleOption("https://bundles.example/b.tar.gz")).toBe("https://bundles.example/b.tar.gz");
  for (const text of ["http://bundles.example/b.tar.gz", "https://u:p@bundles.example/b.tar.gz", "s3://b/b.tar.gz"])
    expect(() => readBundleOption(text)).toThrow(/^--bundle: /);
});

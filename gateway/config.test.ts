import { expect, test } from "bun:test";
import { parseConfig } from "./config.ts";
import { limits } from "./limits.ts";

const smallest = {
  listen: {},
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

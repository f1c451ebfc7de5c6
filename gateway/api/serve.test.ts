import { expect, test } from "bun:test";
import { connect } from "node:net";
import { networkInterfaces } from "node:os";
import { Hono } from "hono";
import { loweredLimits } from "../../scripts/lowered-limits.ts";
import type { ApiEnv } from "./http.ts";
import { serveApi } from "./serve.ts";

test("a connection that sends no request, or never ends one, is closed, and a slow answer is waited for", async () => {
  using _ = loweredLimits({ apiRequestTimeoutMs: 1_000 });
  const app = new Hono();
  const answer = Promise.withResolvers<void>();
  app.get("/slow", async (context) => {
    await answer.promise;
    return context.text("at last");
  });
  const server = serveApi(app, { host: "127.0.0.1", port: 0 });
  const closed = (sent: string) =>
    new Promise<void>((resolve) => {
      connect(server.port, "127.0.0.1", function (this: { write(text: string): void }) {
        if (sent !== "") this.write(sent);
      }).on("close", () => resolve());
    });
  const slow = fetch(`http://127.0.0.1:${server.port}/slow`);
  await Promise.all([closed(""), closed("GET /slow HTTP/1.1\r\nHost: x\r\n")]);
  answer.resolve();
  expect(await (await slow).text()).toBe("at last");
  await server.close();
}, 60_000);

/** This machine as others reach it. */
const outer = Object.values(networkInterfaces())
  .flatMap((addresses) => addresses ?? [])
  .find(({ family, internal }) => family === "IPv4" && !internal)?.address;

test.skipIf(outer === undefined)(
  "who asks from elsewhere without TLS is told apart from who asks over loopback",
  async () => {
    const app = new Hono<ApiEnv>();
    app.get("/", (context) => context.json(context.env.isInClear));
    const server = serveApi(app, { host: "0.0.0.0", port: 0 });
    const isInClear = async (host: string) => (await fetch(`http://${host}:${server.port}/`)).json();
    expect([await isInClear("127.0.0.1"), await isInClear(outer ?? "")]).toEqual([false, true]);
    await server.close();
  },
);

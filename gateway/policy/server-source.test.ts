/** A bundle server of our own, over HTTP and TLS, and a policy host that asks it. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loweredLimits } from "../../scripts/lowered-limits.ts";
import { signBundle } from "../../scripts/policy/sign.ts";
import { limits } from "../limits.ts";
import { PolicyHost } from "./host.ts";
import { ServerSource } from "./server-source.ts";
import type { PolicySettings } from "./source.ts";

const fixture = (name: string) => readFileSync(join(import.meta.dir, "../../fixtures/policy", `${name}.tar.gz`));
const [first, second] = [fixture("masks"), fixture("sees-now")];
let folder: string;
let requests: { path: string; headers: Headers }[];
let answer: (request: Request) => Response | Promise<Response>;
let server: Bun.Server<undefined>;
let address: string;

function serve(options: { port?: number; tls?: Bun.TLSOptions } = {}): Bun.Server<undefined> {
  return Bun.serve({
    ...{ hostname: "127.0.0.1", port: 0, idleTimeout: 60, ...options },
    fetch: (request) => {
      requests.push({ path: new URL(request.url).pathname, headers: request.headers });
      return answer(request);
    },
  });
}

/** Answers as a bundle server does: 304 where the caller has it already. */
function offer(bundle: Uint8Array<ArrayBuffer>, etag: string): void {
  answer = ({ headers }) =>
    headers.get("if-none-match") === etag
      ? new Response(null, { status: 304, headers: { etag } })
      : new Response(bundle, { headers: { etag } });
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sallyport-server-source-"));
  requests = [];
  server = serve();
  address = `http://127.0.0.1:${server.port}/bundles/gateway.tar.gz`;
  offer(first, '"1"');
});

afterEach(async () => {
  await server.stop(true);
  rmSync(folder, { recursive: true, force: true });
});

const keep = () => join(folder, "kept");
const source = (settings: Partial<PolicySettings> = {}) => new ServerSource({ bundle: address, ...settings });
const unavailable = (message: RegExp) => ({ code: "policy.unavailable", message: expect.stringMatching(message) });

async function withHost(settings: Partial<PolicySettings>, use: (host: PolicyHost) => Promise<void>): Promise<void> {
  const host = await PolicyHost.load({ bundle: address, keep: keep(), ...settings });
  try {
    await use(host);
  } finally {
    host.stop();
  }
}

describe("asking the server", () => {
  test("sends the ETag of the bundle in force, and 304 changes nothing", async () => {
    await withHost({}, async (host) => {
      const before = host.current();
      await host.reload();
      expect(requests.map(({ headers }) => headers.get("if-none-match"))).toEqual([null, '"1"']);
      expect([host.current() === before, host.status().lastError]).toEqual([true, undefined]);
      offer(second, '"2"');
      await host.reload();
      expect(host.current()).not.toBe(before);
      await host.reload();
      expect(requests.at(-1)?.headers.get("if-none-match")).toBe('"2"');
    });
  });
  test("a bundle that was refused is asked for again: only what is in force has its ETag sent", async () => {
    await withHost({}, async (host) => {
      const before = host.current();
      offer(fixture("malformed"), '"bad"');
      for (const _ of [1, 2]) await expect(host.reload()).rejects.toMatchObject({ code: "policy.bundle_invalid" });
      expect(requests.map(({ headers }) => headers.get("if-none-match"))).toEqual([null, '"1"', '"1"']);
      expect(host.current()).toBe(before);
      expect(host.status().lastError).toMatch(/self-test/);
    });
  });
  test("an ETag that no header may have is not sent back", async () => {
    for (const etag of ["a b", `"${"x".repeat(2_000)}"`]) {
      answer = () => new Response(first, { headers: { etag } });
      const one = source();
      const { material } = await one.read();
      await one.accepted(material);
      await one.read();
      expect(requests.at(-1)?.headers.get("if-none-match")).toBeNull();
    }
  });
  test("sends the token as it is now, from a file, and says nothing of one that no header may have", async () => {
    const file = join(folder, "token");
    const one = source({ token: { file } });
    for (const token of ["first", "second"]) {
      writeFileSync(file, `${token}\n`);
      await one.read();
      expect(requests.at(-1)?.headers.get("authorization")).toBe(`Bearer ${token}`);
    }
    writeFileSync(file, "s3cret\ninjected: yes");
    const error = await one.read().catch((thrown) => thrown);
    expect(error).toMatchObject({ code: "policy.unavailable" });
    expect(Bun.inspect(error)).not.toContain("s3cret");
    expect(requests).toHaveLength(2);
  });
  test.each([401, 404, 500, 204, 206])("answers %d is no bundle", async (status) => {
    answer = () => new Response(status === 204 ? null : first, { status });
    await expect(source().read()).rejects.toMatchObject(unavailable(new RegExp(`answers ${status}$`)));
  });
  test("a 304 that was not asked for is no bundle", async () => {
    answer = () => new Response(null, { status: 304 });
    await expect(source().read()).rejects.toMatchObject(unavailable(/answers 304/));
  });
  test("does not follow to another address, where its token would go", async () => {
    answer = () => new Response(null, { status: 302, headers: { location: "/elsewhere" } });
    await expect(source().read()).rejects.toMatchObject(unavailable(/answers 302/));
    expect(requests.map(({ path }) => path)).toEqual(["/bundles/gateway.tar.gz"]);
  });
  test("an error does not repeat what the address's query holds", async () => {
    answer = () => new Response(null, { status: 403 });
    const secret = source({ bundle: `${address}?signature=s3cret` });
    const error = await secret.read().catch((thrown) => thrown);
    expect(error.message).toBe(`bundle server: ${address} answers 403`);
    await server.stop(true);
    expect((await secret.read().catch((thrown) => thrown)).message).not.toContain("s3cret");
  });
  test("takes an archive that is called an encoding as it is", async () => {
    answer = () => new Response(first, { headers: { "content-encoding": "gzip" } });
    expect(Buffer.compare((await source().read()).material.bundle, first)).toBe(0);
  });
});

describe("limits", () => {
  test("an answer over the size is refused, whether it says its length or not", async () => {
    const chunk = new Uint8Array(1_048_576);
    const count = limits.bundleBytesMax / chunk.byteLength;
    const stream = (extra: number) =>
      new ReadableStream({
        async start(controller) {
          for (let sent = 0; sent < count; sent++) controller.enqueue(chunk);
          controller.enqueue(new Uint8Array(extra));
          controller.close();
        },
      });
    answer = () => new Response(stream(1));
    await expect(source().read()).rejects.toMatchObject(unavailable(/more than 33554432 bytes/));
    answer = () => new Response(new Uint8Array(limits.bundleBytesMax + 1));
    await expect(source().read()).rejects.toMatchObject(unavailable(/more than 33554432 bytes/));
    answer = () => new Response(new Uint8Array(limits.bundleBytesMax));
    expect((await source().read()).material.bundle.byteLength).toBe(limits.bundleBytesMax);
  }, 30_000);
  test("a server that answers nothing, or begins and stops, is given up", async () => {
    using _ = loweredLimits({ policyFetchTimeoutMs: 200 });
    answer = () => new Promise(() => undefined);
    await expect(source().read()).rejects.toMatchObject(unavailable(/cannot be read/));
    answer = () =>
      new Response(new ReadableStream({ start: (controller) => controller.enqueue(first.subarray(0, 99)) }));
    await expect(source().read()).rejects.toMatchObject(unavailable(/cannot be read/));
  });
});

describe("over TLS", () => {
  function certificate(name: string, subject: string): { cert: string; key: string } {
    const [cert, key] = [join(folder, `${name}.crt`), join(folder, `${name}.key`)];
    const names = ["-subj", "/CN=bundles", "-addext", `subjectAltName=${subject}`];
    const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"];
    const made = Bun.spawnSync(["openssl", "req", "-x509", ...curve, ...names, "-keyout", key, "-out", cert]);
    expect(made.exitCode).toBe(0);
    return { cert, key };
  }

  async function ask(served: { cert: string; key: string }, ca: string | undefined): Promise<void> {
    const [cert, key] = [readFileSync(served.cert, "utf8"), readFileSync(served.key, "utf8")];
    await server.stop(true);
    server = serve({ tls: { cert, key } });
    const bundle = `https://127.0.0.1:${server.port}/bundle.tar.gz`;
    await source({ bundle, ...(ca !== undefined && { ca }) }).read();
  }

  test("the certificate must come from the one configured, and name the server", async () => {
    const [good, other] = [certificate("good", "IP:127.0.0.1"), certificate("other", "IP:127.0.0.1")];
    const named = certificate("named", "DNS:bundles.example");
    await ask(good, good.cert);
    for (const [served, ca] of [
      [good, undefined],
      [other, good.cert],
      [named, named.cert],
    ] as const) {
      await expect(ask(served, ca)).rejects.toMatchObject(unavailable(/cannot be read/));
    }
    expect(requests).toHaveLength(1);
  });
  test("NODE_TLS_REJECT_UNAUTHORIZED does not turn that off", async () => {
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
    try {
      await expect(ask(certificate("self", "IP:127.0.0.1"), undefined)).rejects.toMatchObject(unavailable(/cannot be/));
    } finally {
      delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
    }
  });
});

describe("the copy on disk", () => {
  test("lets a gateway start while the server is away or has only a broken bundle, and the status says so", async () => {
    await withHost({}, async () => undefined);
    const digest = JSON.stringify((await PolicyHost.load({ bundle: address, keep: keep() }).then(stopped)).revision);
    for (const bad of [() => new Response(null, { status: 503 }), () => new Response(fixture("malformed"))]) {
      answer = bad;
      await withHost({}, async (host) => {
        expect(JSON.stringify(host.current().revision)).toBe(digest);
        expect(host.status().lastError).toMatch(/answers 503|self-test/);
        offer(first, '"1"');
        await host.reload();
        expect(host.status().lastError).toBeUndefined();
        // The ETag was kept too.
        expect(requests.at(-1)?.headers.get("if-none-match")).toBe('"1"');
      });
    }
  });
  test("without one, or for another address, the gateway does not start", async () => {
    await withHost({}, async () => undefined);
    answer = () => new Response(null, { status: 503 });
    const load = (settings: Partial<PolicySettings>) => PolicyHost.load({ bundle: address, keep: keep(), ...settings });
    await expect(load({ keep: join(folder, "none") })).rejects.toMatchObject(unavailable(/answers 503/));
    await expect(load({ bundle: `${address}?other` })).rejects.toMatchObject(unavailable(/answers 503/));
  });
  test("is verified again: one that was changed on disk, or whose key is no longer configured, is not used", async () => {
    const { privateKey, publicKey } = generateKeyPairSync("ed25519");
    const key = String(privateKey.export({ type: "pkcs8", format: "pem" }));
    writeFileSync(join(folder, "release.pub"), publicKey.export({ type: "spki", format: "pem" }));
    const verify = { keys: { default: { key: join(folder, "release.pub") } }, scope: "" };
    offer(Buffer.from(await signBundle(first, { key })), '"signed"');
    await withHost({ verify }, async (host) => {
      expect(host.status().signedBy).toBe("default");
      const before = host.current();
      offer(second, '"unsigned"');
      await expect(host.reload()).rejects.toMatchObject({ code: "policy.signature_invalid" });
      expect(host.current()).toBe(before);
      answer = () => new Response(null, { status: 503 });
    });
    await withHost({ verify }, async (host) => expect(host.status().signedBy).toBe("default"));
    const renamed = { keys: { other: { key: join(folder, "release.pub") } }, scope: "" };
    const refused = { code: "policy.signature_invalid" };
    await expect(PolicyHost.load({ bundle: address, keep: keep(), verify: renamed })).rejects.toMatchObject(refused);
    const [archive = ""] = readdirSync(keep()).filter((name) => name.endsWith(".tar.gz"));
    writeFileSync(join(keep(), archive), second);
    await expect(PolicyHost.load({ bundle: address, keep: keep(), verify })).rejects.toMatchObject(refused);
  });
  test("that cannot be written is no reason not to use the new bundle, and is told", async () => {
    const file = join(folder, "file");
    writeFileSync(file, "");
    await withHost({ keep: file }, async (host) => {
      expect(host.status().lastError).toMatch(/could not be kept on disk/);
      offer(second, '"2"');
      const before = host.current();
      await host.reload();
      expect(host.current()).not.toBe(before);
      rmSync(file);
      await host.reload();
      expect(host.status().lastError).toBeUndefined();
    });
  });
  test("is readable by its owner only", async () => {
    await withHost({}, async () => undefined);
    chmodSync(folder, 0o755);
    const modes = readdirSync(keep()).map((name) => Bun.spawnSync(["stat", "-c", "%a", join(keep(), name)]).stdout);
    expect(modes.map(String)).toEqual(["600\n", "600\n"]);
  });
});

test("a change of the deployment's data is taken up while the server is away", async () => {
  const data = join(folder, "data.yaml");
  writeFileSync(data, "labels: {}\n");
  await withHost({ data }, async (host) => {
    const before = host.current();
    answer = () => new Response(null, { status: 503 });
    writeFileSync(data, "labels: { pii: { mask: redact } }\n");
    await host.reload();
    expect(host.current()).not.toBe(before);
    expect(host.status().lastError).toMatch(/answers 503/);
  });
});

test("is asked again and again by itself, less often while it fails", async () => {
  await withHost({ poll: { interval: 100, jitter: 0.1 } }, async (host) => {
    await host.watch();
    await until(() => requests.length >= 5);
    offer(second, '"2"');
    const before = host.current();
    await until(() => host.current() !== before);
    answer = () => new Response(null, { status: 503 });
    const asked = requests.length;
    await Bun.sleep(1_600);
    // 100, 200, 400, 800 ms …: four or five, where it would be fifteen.
    expect(requests.length - asked).toBeGreaterThan(2);
    expect(requests.length - asked).toBeLessThan(7);
  });
});

test("a failing server is asked no less often than the longest wait between two tries", async () => {
  using _ = loweredLimits({ policyRetryMsMax: 150 });
  await withHost({ poll: { interval: 100, jitter: 0 } }, async (host) => {
    answer = () => new Response(null, { status: 503 });
    await host.watch();
    const asked = requests.length;
    await Bun.sleep(1_600);
    // Ten, where doubling without an end would ask four times.
    expect(requests.length - asked).toBeGreaterThan(5);
    expect(requests.length - asked).toBeLessThan(12);
  });
});

test("files that were refused are read again by themselves, where nothing tells of their change", async () => {
  using _ = loweredLimits({ policyRetryMs: 100 });
  const [bundle, data] = [join(folder, "bundle.tar.gz"), join(folder, "data.yaml")];
  writeFileSync(bundle, first);
  writeFileSync(data, "labels: {}\n");
  await withHost({ bundle, data, watch: false }, async (host) => {
    const before = host.current();
    writeFileSync(data, "labels: [\n");
    await host.watch();
    expect([host.current() === before, host.status().lastError !== undefined]).toEqual([true, true]);
    writeFileSync(data, "labels: { pii: { mask: redact } }\n");
    await until(() => host.current() !== before);
    expect(host.status().lastError).toBeUndefined();
  });
}, 15_000);

function stopped(host: PolicyHost) {
  host.stop();
  return host.current();
}

async function until(done: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!done()) {
    if (performance.now() > deadline) throw new Error("not within 10 s");
    await Bun.sleep(10);
  }
}

/** Bundles signed here are verified by OPA, those that OPA signs are verified here. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Policy } from "../../gateway/policy/policy.ts";
import { verifyBundle } from "../../gateway/policy/signature.ts";
import { policiesFolder, policySources } from "./sources.ts";
import { tarball } from "./tarball.ts";
import { resolveOpa } from "./toolchain.ts";

const main = join(import.meta.dir, "main.ts");
let folder: string;
let opa: string;

// Where OPA is neither given nor built yet, Go builds it first.
beforeAll(() => {
  opa = resolveOpa();
  folder = mkdtempSync(join(tmpdir(), "sallyport-sign-"));
  const ec = { type: "sec1", format: "pem" } as const;
  const pkcs8 = { type: "pkcs8", format: "pem" } as const;
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2_048 });
  const p256 = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const ed25519 = generateKeyPairSync("ed25519");
  writeFileSync(join(folder, "rsa.pem"), rsa.privateKey.export({ type: "pkcs1", format: "pem" }));
  writeFileSync(join(folder, "ec.pem"), p256.privateKey.export(ec));
  writeFileSync(join(folder, "ed.pem"), ed25519.privateKey.export(pkcs8));
  for (const [name, { publicKey }] of Object.entries({ rsa, ec: p256, ed: ed25519 })) {
    writeFileSync(join(folder, `${name}.pub`), publicKey.export({ type: "spki", format: "pem" }));
  }
}, 600_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

function run(command: readonly string[], cwd = folder): { exitCode: number; output: string } {
  const { exitCode, stdout, stderr } = Bun.spawnSync([...command], { cwd, stdout: "pipe", stderr: "pipe" });
  return { exitCode, output: stdout.toString() + stderr.toString() };
}

const build = (...args: string[]) => run([process.execPath, main, "build", ...args]);
const verify = (bundle: string, key: string, algorithm: string) =>
  run([opa, "build", "-b", bundle, "--verification-key", key, "--signing-alg", algorithm, "-o", "out.tar.gz"]);
const keysOf = (name: string) => ({ default: { pem: readFileSync(join(folder, `${name}.pub`), "utf8") } });

describe("policy build --signing-key", () => {
  test.each([
    ["rsa", "RS256", []],
    ["rsa", "PS512", ["--signing-alg", "PS512"]],
    ["ec", "ES256", []],
    ["ed", "EdDSA", []],
  ])("%s, %s: OPA verifies it, and refuses another key", (name, algorithm, options) => {
    expect(build("--signing-key", `${name}.pem`, ...options, "-o", "signed.tar.gz")).toMatchObject({ exitCode: 0 });
    expect(verify("signed.tar.gz", `${name}.pub`, algorithm)).toEqual({ exitCode: 0, output: "" });
    const { publicKey } = generateKeyPairSync("rsa", { modulusLength: 2_048 });
    writeFileSync(join(folder, "other.pub"), publicKey.export({ type: "spki", format: "pem" }));
    expect(verify("signed.tar.gz", "other.pub", "RS256").output).toMatch(/verif/);
  });
  test("equal sources and key give equal bytes, which load and are verified here", async () => {
    for (const name of ["1", "2"]) build("--signing-key", "ed.pem", "--scope", "prod", "-o", `${name}.tar.gz`);
    const bundle = readFileSync(join(folder, "1.tar.gz"));
    expect(bundle.equals(readFileSync(join(folder, "2.tar.gz")))).toBe(true);
    expect(await verifyBundle(bundle, { keys: keysOf("ed"), scope: "prod" })).toBe("default");
    const committed = readFileSync(join(policiesFolder, "dist/bundle.tar.gz"));
    const [signed, plain] = await Promise.all(
      [bundle, committed].map((bytes) => Policy.from({ bundle: bytes, source: "test" })),
    );
    expect(signed?.data).toEqual(plain?.data ?? {});
  });
  test("refuses a key that does not fit its algorithm, and options for a signature without a key", () => {
    expect(build("--signing-key", "ec.pem", "--signing-alg", "RS256", "-o", "no.tar.gz").exitCode).toBe(1);
    expect(build("--signing-key", "rsa.pem", "--signing-alg", "HS256", "-o", "no.tar.gz").output).toMatch(
      /must be one of/,
    );
    expect(build("--signing-key", "rsa.pem", "--signing-alg", "none", "-o", "no.tar.gz").output).toMatch(
      /must be one of/,
    );
    expect(build("--scope", "prod", "-o", "no.tar.gz").output).toMatch(/usage/);
    expect(readdirSync(folder)).not.toContain("no.tar.gz");
  });
});

describe("what OPA signs is verified here:", () => {
  test("a bundle that opa build compiled and signed, which loads", async () => {
    const sources = policySources(policiesFolder).filter((name) => name.endsWith(".rego"));
    const entrypoints = ["-e", "sallyport/session", "-e", "sallyport/command"];
    const signing = ["--signing-key", join(folder, "rsa.pem"), "--bundle", "."];
    const copy = join(folder, "sources");
    for (const name of [...sources, "data.yaml"]) {
      mkdirSync(join(copy, name, ".."), { recursive: true });
      writeFileSync(join(copy, name), readFileSync(join(policiesFolder, name)));
    }
    const output = join(folder, "opa.tar.gz");
    const built = run([opa, "build", "-t", "wasm", ...entrypoints, ...signing, "-o", output], copy);
    expect(built).toEqual({ exitCode: 0, output: "" });
    const bundle = readFileSync(output);
    expect(await verifyBundle(bundle, { keys: keysOf("rsa"), scope: "" })).toBe("default");
    const policy = await Policy.from({ bundle, source: "opa" });
    expect(Object.keys(policy.data)).toContain("labels");
  });
  test("documents with every kind of number, text and key", async () => {
    const documents = [
      `{"n": [0, -0, 1.0, 1e3, 1E+3, 12345678901234567890, 0.1000, -1.5e-7, 1e400]}`,
      `{"t": ["<&>\\u2028\\u2029", "\\u00e9\\u0000\\u001f\\u007f", "\\ud83d\\ude00", "\\/\\b\\f\\n\\r\\t\\"\\\\"]}`,
      `{"z": 1, "a": {"é": 1, "\\ud83d\\ude00": 2, "\\uffee": 3, "": 4, "10": 5, "9": 6}, "B": [[], {}, null, true]}`,
    ];
    for (const [number, data] of documents.entries()) {
      const bundle = join(folder, `documents-${number}`);
      mkdirSync(join(bundle, "more"), { recursive: true });
      const files = {
        ".manifest": `{ "revision": "1",\n "roots": ["" ] }`,
        "data.json": data,
        "more/notes.txt": data,
        "more/data.json": data.replace(/"([nzt])"/, '"more"'),
      };
      for (const [name, content] of Object.entries(files)) writeFileSync(join(bundle, name), content);
      const claims = join(folder, "claims.json");
      writeFileSync(claims, JSON.stringify({ keyid: "default", scope: "prod" }));
      const sign = [opa, "sign", "--signing-key", join(folder, "ec.pem"), "--signing-alg", "ES256"];
      expect(run([...sign, "--claims-file", claims, "--bundle", "."], bundle)).toEqual({ exitCode: 0, output: "" });
      const archive = (changed: Record<string, string> = {}) =>
        tarball(
          [...Object.keys(files), ".signatures.json"].map((name) => [
            name,
            Buffer.from(changed[name] ?? readFileSync(join(bundle, name))),
          ]),
        );
      const verification = { keys: keysOf("ec"), scope: "prod" };
      expect(await verifyBundle(archive(), verification)).toBe("default");
      const other = archive({ "more/data.json": "{}" });
      await expect(verifyBundle(other, verification)).rejects.toMatchObject({ code: "policy.signature_invalid" });
    }
  });
});

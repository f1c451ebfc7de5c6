import { describe, expect, test } from "bun:test";
import { createHash, generateKeyPairSync, type KeyObject } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CompactSign } from "jose";
import { type SigningOptions, signBundle } from "../../scripts/policy/sign.ts";
import { tarball } from "../../scripts/policy/tarball.ts";
import { readArchive } from "./archive.ts";
import { readVerificationKey, type Verification, verifyBundle } from "./signature.ts";
import { signingAlgorithms } from "./signing-algorithms.ts";

const unsigned = readFileSync(join(import.meta.dir, "../../policies/dist/bundle.tar.gz"));

interface Pair {
  readonly secret: KeyObject;
  readonly pem: string;
  readonly publicPem: string;
}

function pair({ privateKey, publicKey }: { privateKey: KeyObject; publicKey: KeyObject }): Pair {
  return {
    secret: privateKey,
    pem: String(privateKey.export({ type: "pkcs8", format: "pem" })),
    publicPem: String(publicKey.export({ type: "spki", format: "pem" })),
  };
}

const rsa = pair(generateKeyPairSync("rsa", { modulusLength: 2_048 }));
const p256 = pair(generateKeyPairSync("ec", { namedCurve: "P-256" }));
const ours = p256;
const another = pair(generateKeyPairSync("ec", { namedCurve: "P-256" }));
const pairs: Readonly<Record<string, Pair>> = {
  ...Object.fromEntries(["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"].map((name) => [name, rsa])),
  ES256: p256,
  ES384: pair(generateKeyPairSync("ec", { namedCurve: "P-384" })),
  ES512: pair(generateKeyPairSync("ec", { namedCurve: "P-521" })),
  EdDSA: pair(generateKeyPairSync("ed25519")),
};

const expected: Verification = { keys: { release: { pem: ours.publicPem } }, scope: "gateway" };
const sign = (options: Partial<SigningOptions> = {}) =>
  signBundle(unsigned, { key: ours.pem, keyId: "release", scope: "gateway", ...options });
const signed = await sign();

type Files = Map<string, Uint8Array>;

/** The signed bundle with something done to its files. */
function changed(change: (files: Files) => void, bundle = signed): Uint8Array {
  const files: Files = new Map(readArchive(bundle));
  change(files);
  return tarball([...files].map(([name, content]) => [name, Buffer.from(content)]));
}

function take(files: Files, name: string): Uint8Array {
  const content = files.get(name);
  if (content === undefined) throw new Error(`the bundle has no ${name}`);
  files.delete(name);
  return content;
}

const document = (tokens: readonly unknown[]) => Buffer.from(JSON.stringify({ signatures: tokens }));
const tokenOf = (bundle: Uint8Array): string =>
  JSON.parse(Buffer.from(take(new Map(readArchive(bundle)), ".signatures.json")).toString()).signatures[0];
const payloadOf = (token: string) => JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString());
const withToken = (token: string) => changed((files) => files.set(".signatures.json", document([token])));

/** A signature by our own key, or the one given, of whatever payload. */
async function forged(
  payload: unknown,
  header: Record<string, unknown> = {},
  key: KeyObject | Uint8Array = ours.secret,
): Promise<Uint8Array> {
  const token = await new CompactSign(Buffer.from(JSON.stringify(payload)))
    .setProtectedHeader({ alg: "ES256", kid: "release", ...header })
    .sign(key);
  return withToken(token);
}

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");

async function refusal(bundle: Uint8Array, verification = expected): Promise<string> {
  try {
    await verifyBundle(bundle, verification);
  } catch (error) {
    expect(error).toMatchObject({ code: "policy.signature_invalid" });
    return (error as Error).message;
  }
  throw new Error("it was accepted");
}

describe("what is signed as OPA signs is accepted", () => {
  test.each(signingAlgorithms)("with %s", async (algorithm) => {
    const { pem = "", publicPem = "" } = pairs[algorithm] ?? {};
    const bundle = await sign({ key: pem, algorithm });
    const keys = { release: { pem: publicPem, algorithm } };
    expect(await verifyBundle(bundle, { keys, scope: "gateway" })).toBe("release");
  });
  test("whatever the order, the white space and the key order of its documents", async () => {
    const bundle = changed((files) => {
      const { a, ...rest } = { a: 1, ...JSON.parse(Buffer.from(take(files, "data.json")).toString()) };
      expect(a).toBe(1);
      const reversed = Object.fromEntries(Object.entries(rest).reverse());
      files.set("data.json", Buffer.from(JSON.stringify(reversed, undefined, 2)));
    });
    expect(await verifyBundle(bundle, expected)).toBe("release");
  });
  test("without a scope where none is asked, and by the only key where no id is stated", async () => {
    const bundle = await forged({ files: payloadOf(tokenOf(signed)).files }, { kid: undefined });
    expect(await verifyBundle(bundle, { ...expected, scope: "" })).toBe("release");
    const two = { release: { pem: ours.publicPem }, next: { pem: another.publicPem } };
    expect(await refusal(bundle, { keys: two, scope: "" })).toMatch(/does not say which key/);
  });
});

describe("what is not as signed is refused:", () => {
  test("unsigned, without a signature in it, with two", async () => {
    expect(await refusal(unsigned)).toMatch(/not signed/);
    for (const tokens of [[], [tokenOf(signed), tokenOf(signed)]]) {
      expect(await refusal(changed((files) => files.set(".signatures.json", document(tokens))))).toMatch(/not one/);
    }
    for (const tokens of [[null], [""], ["a.b.c"], ["...."]]) {
      await refusal(changed((files) => files.set(".signatures.json", document(tokens))));
    }
    expect(await refusal(changed((files) => files.set(".signatures.json", Buffer.from("{"))))).toMatch(/not JSON/);
  });
  test.each(["policy.wasm", "data.json", ".manifest"])("a changed %s", async (name) => {
    const bundle = changed((files) => {
      const content = Buffer.from(take(files, name));
      // A document that stays one: a digit, or a letter inside a text.
      const at = name === "policy.wasm" ? content.length - 1 : content.indexOf(name === "data.json" ? "pii" : "sha256");
      content[at] = (content[at] ?? 0) ^ 1;
      files.set(name, content);
    });
    expect(await refusal(bundle)).toMatch(`${name} is not the file that was signed`);
  });
  test.each(["policy.wasm", "data.json", ".manifest"])("a removed %s", async (name) => {
    expect(await refusal(changed((files) => void take(files, name)))).toMatch(`${name} was signed and is missing`);
  });
  test.each(["more.rego", "a/data.json", "data.yaml", ".manifest.bak"])("an added %s", async (name) => {
    expect(await refusal(changed((files) => files.set(name, Buffer.from("{}"))))).toMatch(
      `${name} is not covered by its signature`,
    );
  });
  test("two signed files that took each other's place", async () => {
    const bundle = changed((files) => {
      const [data, manifest] = [take(files, "data.json"), take(files, ".manifest")];
      files.set("data.json", manifest).set(".manifest", data);
    });
    expect(await refusal(bundle)).toMatch(/is not the file that was signed/);
  });
  test("a signed file under another name, and the signature in another folder", async () => {
    expect(await refusal(changed((files) => files.set("policy2.wasm", take(files, "policy.wasm"))))).toMatch(
      "policy2.wasm is not covered",
    );
    const moved = changed((files) => files.set("a/.signatures.json", take(files, ".signatures.json")));
    expect(await refusal(moved)).toMatch(/not signed/);
    const second = changed((files) => files.set("a/.signatures.json", files.get(".signatures.json") ?? Buffer.of()));
    expect(await refusal(second)).toMatch(/several signature documents/);
  });
  test("the signature of another bundle", async () => {
    const other = await signBundle(
      changed((files) => files.set("data.json", Buffer.from("{}")), unsigned),
      { key: ours.pem, keyId: "release", scope: "gateway" },
    );
    expect(await refusal(withToken(tokenOf(other)))).toMatch("data.json is not the file that was signed");
  });
  test("another key under the known id, and a key id that is not configured", async () => {
    expect(await refusal(await sign({ key: another.pem }))).toMatch(/not one by key "release"/);
    expect(await refusal(await sign({ keyId: "retired" }))).toMatch(/"retired", which is not configured/);
    for (const kid of ["__proto__", "constructor", 1, null]) {
      await refusal(await forged({ ...payloadOf(tokenOf(signed)), keyid: kid }, { kid } as Record<string, unknown>));
    }
    const payload = { ...payloadOf(tokenOf(signed)), keyid: "next" };
    const keys = { release: { pem: ours.publicPem }, next: { pem: another.publicPem } };
    expect(await refusal(await forged(payload), { keys, scope: "gateway" })).toMatch(/two key ids/);
  });
  test("no algorithm, the public key used as a secret, and another algorithm than the key's", async () => {
    const payload = payloadOf(tokenOf(signed));
    const none = `${encode({ alg: "none", kid: "release" })}.${encode(payload)}.`;
    expect(await refusal(withToken(none))).toMatch(/not one by key "release" with ES256/);
    const hmac = await forged(payload, { alg: "HS256" }, Buffer.from(ours.publicPem));
    expect(await refusal(hmac)).toMatch(/not one by key "release" with ES256/);
    const keys = { release: { pem: rsa.publicPem } };
    expect(await refusal(await sign({ key: rsa.pem, algorithm: "PS256" }), { keys, scope: "gateway" })).toMatch(
      /with RS256/,
    );
  });
  test("another scope, and none where one is asked or the other way round", async () => {
    for (const scope of ["staging", undefined]) {
      expect(await refusal(await sign({ scope }))).toMatch(/is for scope "(staging)?", not "gateway"/);
    }
    expect(await refusal(signed, { ...expected, scope: "" })).toMatch(/is for scope "gateway", not ""/);
  });
  test("a payload that was edited, and a header that was", async () => {
    const [header, , signature] = tokenOf(signed).split(".");
    const edited = { ...payloadOf(tokenOf(signed)), scope: "gateway", extra: 1 };
    expect(await refusal(withToken(`${header}.${encode(edited)}.${signature}`))).toMatch(/not one by key/);
    const [, payload] = tokenOf(signed).split(".");
    const typed = encode({ alg: "ES256", kid: "release", typ: "JWT" });
    expect(await refusal(withToken(`${typed}.${payload}.${signature}`))).toMatch(/not one by key/);
  });
  test("a signed list that is ambiguous or uses a weak digest", async () => {
    const { files, ...rest } = payloadOf(tokenOf(signed));
    expect(await refusal(await forged({ ...rest, files: [...files, files[0]] }))).toMatch(/lists a file twice/);
    for (const algorithm of ["MD5", "SHA-1", "sha256", "toString"]) {
      const weak = files.map((file: { name: string }) => ({
        ...file,
        ...{ algorithm, hash: createHash("md5").update(file.name).digest("hex") },
      }));
      expect(await refusal(await forged({ ...rest, files: weak }))).toMatch(`"${algorithm}", which is not accepted`);
    }
    expect(await refusal(await forged({ ...rest, files: [] }))).toMatch(/not covered by its signature/);
    expect(await refusal(await forged({ ...rest, files: {} }))).toMatch(/unexpected shape/);
  });
});

test("a verification key that is private, unreadable or unfit for its algorithm is refused", () => {
  const invalid = (message: string) => expect.objectContaining({ code: "config.invalid", message });
  const read = (pem: string, algorithm?: "RS256" | "ES384") => () => readVerificationKey("k", { pem, algorithm });
  expect(read(ours.pem)).toThrow(invalid(expect.stringContaining("private key")));
  expect(read("no key")).toThrow(invalid(expect.stringContaining("not a public key")));
  expect(read(ours.publicPem, "RS256")).toThrow(invalid(expect.stringContaining("cannot be used with RS256")));
  expect(read(ours.publicPem, "ES384")).toThrow(invalid(expect.stringContaining("cannot be used with ES384")));
  const x25519 = pair(generateKeyPairSync("x25519"));
  expect(read(x25519.publicPem)).toThrow(invalid(expect.stringContaining("not supported")));
  const curve = pair(generateKeyPairSync("ec", { namedCurve: "secp224r1" }));
  expect(read(curve.publicPem)).toThrow(invalid(expect.stringContaining("not supported")));
});

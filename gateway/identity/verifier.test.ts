/** The verifier against a real HTTP issuer on loopback, whose keys and documents each test can make hostile. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  type CryptoKey,
  calculateJwkThumbprint,
  exportJWK,
  exportSPKI,
  generateKeyPair,
  type JWK,
  type JWTHeaderParameters,
  SignJWT,
} from "jose";
import { loweredLimits } from "../../scripts/lowered-limits.ts";
import type { IssuerConfig } from "../config.ts";
import { type ErrorCode, GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import { type Authenticated, createVerifier, type Verifier } from "./verifier.ts";

interface SigningKey {
  readonly privateKey: CryptoKey;
  readonly publicKey: CryptoKey;
  readonly jwk: JWK;
}

async function newKey(alg = "ES256"): Promise<SigningKey> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
  const jwk = await exportJWK(publicKey);
  return { privateKey, publicKey, jwk: { ...jwk, alg, use: "sig", kid: await calculateJwkThumbprint(jwk) } };
}

const [key, otherKey, rsaKey] = [await newKey(), await newKey(), await newKey("RS256")];

let nowMs = 1_800_000_000_000;
let server: ReturnType<typeof Bun.serve>;
let issuer: string;
let published: JWK[];
let discovery: Record<string, unknown>;
let hits: string[];
let verifier: Verifier;

function configure(changes: Partial<IssuerConfig> = {}): IssuerConfig {
  return {
    issuer,
    audience: ["sallyport"],
    profile: "id-token",
    algorithms: ["RS256", "PS256", "ES256", "EdDSA", "Ed25519"],
    groups_claim: "groups",
    clock_skew: 30_000,
    expiry_grace: 0,
    ...changes,
  };
}

const create = (changes: Partial<IssuerConfig> = {}) => createVerifier([configure(changes)], { now: () => nowMs });

beforeEach(() => {
  nowMs = 1_800_000_000_000;
  hits = [];
  published = [key.jwk, rsaKey.jwk];
  server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request) {
      const { pathname } = new URL(request.url);
      hits.push(pathname);
      if (pathname === "/.well-known/openid-configuration") return Response.json(discovery);
      if (pathname === "/keys") return Response.json({ keys: published });
      if (pathname === "/attacker-keys") return Response.json({ keys: [otherKey.jwk] });
      if (pathname === "/moved") return Response.redirect("/keys", 302);
      // Good keys, in a document as long as the limit and one byte longer.
      const padded = (bytes: number) => new Response(JSON.stringify({ keys: published }).padEnd(bytes));
      if (pathname === "/largest") return padded(limits.identityDocumentBytesMax);
      if (pathname === "/compressed") {
        const keys = Bun.gzipSync(JSON.stringify({ keys: published }));
        return new Response(keys, { headers: { "content-encoding": "gzip" } });
      }
      if (pathname === "/too-large") return padded(limits.identityDocumentBytesMax + 1);
      return new Response("nothing", { status: 500 });
    },
  });
  issuer = `http://127.0.0.1:${server.port}`;
  discovery = { issuer, jwks_uri: `${issuer}/keys` };
  verifier = create();
});

afterEach(async () => {
  await server.stop(true);
});

type Claims = Record<string, unknown>;

function claims(changes: Claims = {}): Claims {
  const nowSeconds = nowMs / 1_000;
  return { iss: issuer, aud: "sallyport", sub: "u-1", iat: nowSeconds, exp: nowSeconds + 300, ...changes };
}

function sign(changes: Claims = {}, header: Partial<JWTHeaderParameters> = {}, by = key): Promise<string> {
  return new SignJWT(claims(changes))
    .setProtectedHeader({ alg: by.jwk.alg ?? "", ...(by.jwk.kid && { kid: by.jwk.kid }), ...header })
    .sign(by.privateKey);
}

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");

async function refusal(attempt: Promise<Authenticated>): Promise<ErrorCode | "accepted"> {
  try {
    await attempt;
    return "accepted";
  } catch (error) {
    if (error instanceof GatewayError) return error.code;
    throw error;
  }
}

async function expectRefusal(token: string | Promise<string>, code: ErrorCode, by = verifier): Promise<void> {
  expect(await refusal(by.verify(await token))).toBe(code);
}

test("gives the identity of a good token, its expiry and the issuer's grace", async () => {
  const found = await create({ expiry_grace: 60_000 }).verify(
    await sign({ email: "Ana@x.example", groups: ["analysts", "dba", "dba"], extra: { deep: [1] } }),
  );
  expect(found.identity).toMatchObject({
    issuer,
    subject: "u-1",
    email: "Ana@x.example",
    groups: ["analysts", "dba"],
    kind: "human",
  });
  expect(found.expiresAtMs).toBe(nowMs + 300_000);
  expect(found.graceMs).toBe(60_000);
  expect(Object.isFrozen((found.identity.claims.extra as { deep: number[] }).deep)).toBe(true);
});

test("accepts RS256 as well as ES256, and a token without a kid where one key fits", async () => {
  expect((await verifier.verify(await sign({}, {}, rsaKey))).identity.subject).toBe("u-1");
  const token = await new SignJWT(claims()).setProtectedHeader({ alg: "ES256" }).sign(key.privateKey);
  expect((await verifier.verify(token)).identity.subject).toBe("u-1");
});

test("reads discovery and keys once for many tokens, also when they arrive together", async () => {
  const tokens = await Promise.all([sign(), sign({ sub: "u-2" }), sign({ sub: "u-3" })]);
  await Promise.all(tokens.map((token) => verifier.verify(token)));
  await verifier.verify(await sign());
  expect(hits).toEqual(["/.well-known/openid-configuration", "/keys"]);
});

test("refuses alg none, in any spelling and with any signature", async () => {
  for (const alg of ["none", "None", "NONE", "nOnE"]) {
    const unsigned = `${encode({ alg })}.${encode(claims())}.`;
    await expectRefusal(unsigned, "identity.algorithm_refused");
    await expectRefusal(`${unsigned}AAAA`, "identity.algorithm_refused");
  }
  expect(hits).toEqual([]);
});

test("refuses HS256 keyed with the issuer's public key", async () => {
  const secrets = [await exportSPKI(rsaKey.publicKey), JSON.stringify(rsaKey.jwk), rsaKey.jwk.n ?? ""];
  for (const secret of secrets) {
    const token = await new SignJWT(claims())
      .setProtectedHeader({ alg: "HS256", kid: rsaKey.jwk.kid ?? "" })
      .sign(new TextEncoder().encode(secret));
    await expectRefusal(token, "identity.algorithm_refused");
  }
});

test("refuses an algorithm that the issuer's configuration does not list", async () => {
  await expectRefusal(sign({}, {}, rsaKey), "identity.algorithm_refused", create({ algorithms: ["ES256"] }));
});

test("refuses a signature by another key, and a changed payload", async () => {
  await expectRefusal(sign({}, { kid: key.jwk.kid ?? "" }, otherKey), "identity.signature_invalid");
  const [header, , signature] = (await sign()).split(".");
  await expectRefusal(`${header}.${encode(claims({ sub: "root" }))}.${signature}`, "identity.signature_invalid");
});

test("never takes keys from the token's own header", async () => {
  const injections: Partial<JWTHeaderParameters>[] = [
    { jwk: otherKey.jwk },
    { jku: `${issuer}/attacker-keys` },
    { x5u: `${issuer}/attacker-keys` },
    { x5c: ["MIIB"] },
  ];
  for (const injection of injections) {
    await expectRefusal(sign({}, injection, otherKey), "identity.signature_invalid");
    await expectRefusal(sign({}, { ...injection, kid: key.jwk.kid ?? "" }, otherKey), "identity.signature_invalid");
  }
  expect(hits).not.toContain("/attacker-keys");
});

test("refuses critical extensions, understood by the library or not", async () => {
  const [, payload, signature] = (await sign()).split(".");
  for (const extra of [{ crit: ["b64"], b64: true }, { crit: ["exp"], exp: 1 }, { crit: [] }, { crit: null }]) {
    const header = encode({ alg: "ES256", kid: key.jwk.kid, ...extra });
    await expectRefusal(`${header}.${payload}.${signature}`, "identity.token_malformed");
  }
});

test("refuses what is not a JWT before it decodes it", async () => {
  await expectRefusal("", "identity.token_missing");
  await expectRefusal("a".repeat(limits.tokenBytesMax + 1), "identity.token_too_large");
  const good = await sign();
  const [header, payload, signature] = good.split(".");
  const odd = ["password", "a.b", `${good}.x`, `${good} `, `${good}\n`, `${header}=.${payload}.${signature}`];
  odd.push(`${encode([1])}.${payload}.${signature}`, `${header}.${encode("x")}.${signature}`, "....", "é.é.é");
  odd.push(`${encode(null)}.${payload}.${signature}`, `${Buffer.from([0xff]).toString("base64url")}.${payload}.x`);
  for (const token of odd) await expectRefusal(token, "identity.token_malformed");
  expect(hits).toEqual([]);
});

test("refuses another issuer, and never fetches from it", async () => {
  await expectRefusal(sign({ iss: `${issuer}/evil` }), "identity.issuer_unknown");
  await expectRefusal(sign({ iss: undefined }), "identity.issuer_unknown");
  await expectRefusal(sign({ iss: [issuer] }), "identity.issuer_unknown");
  await expectRefusal(sign({ iss: `${issuer}/` }), "identity.issuer_unknown");
  expect(hits).toEqual([]);
});

test("refuses a token of one trusted issuer that another signed", async () => {
  const second: ReturnType<typeof Bun.serve> = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request): Response =>
      request.url.endsWith("/keys")
        ? Response.json({ keys: [otherKey.jwk] })
        : Response.json({ issuer: secondIssuer, jwks_uri: `${secondIssuer}/keys` }),
  });
  const secondIssuer: string = `http://127.0.0.1:${second.port}`;
  const both = createVerifier([configure(), configure({ issuer: secondIssuer })], { now: () => nowMs });
  expect((await both.verify(await sign({ iss: secondIssuer }, {}, otherKey))).identity.issuer).toBe(secondIssuer);
  await expectRefusal(sign({}, {}, otherKey), "identity.signature_invalid", both);
  await second.stop(true);
});

test("refuses another audience", async () => {
  for (const aud of ["other", [], ["other"], "sallyport2"])
    await expectRefusal(sign({ aud }), "identity.audience_mismatch");
  for (const aud of [undefined, 7]) expect(await refusal(verifier.verify(await sign({ aud })))).not.toBe("accepted");
});

test("asks for azp where an ID token has several audiences, and keeps to the configured parties", async () => {
  await expectRefusal(sign({ aud: ["sallyport", "other"] }), "identity.audience_mismatch");
  expect((await verifier.verify(await sign({ aud: ["sallyport", "other"], azp: "cli" }))).identity.subject).toBe("u-1");
  const picky = create({ azp: ["cli"] });
  await expectRefusal(sign({ azp: "other" }), "identity.audience_mismatch", picky);
  await expectRefusal(sign({ azp: ["cli"] }), "identity.claims_invalid", picky);
  expect(await refusal(picky.verify(await sign({ azp: "cli" })))).toBe("accepted");
});

test("refuses an expired token at its exp, whatever the skew", async () => {
  const token = await sign();
  nowMs += 299_999;
  expect(await refusal(verifier.verify(token))).toBe("accepted");
  nowMs += 1;
  await expectRefusal(token, "identity.expired");
  nowMs += 3_600_000;
  await expectRefusal(token, "identity.expired");
});

test("refuses a token without exp, iat or sub, or with odd ones", async () => {
  for (const missing of ["exp", "iat", "sub"])
    await expectRefusal(sign({ [missing]: undefined }), "identity.claims_invalid");
  for (const exp of ["9999999999", 1e300]) await expectRefusal(sign({ exp }), "identity.claims_invalid");
  for (const sub of ["", "a\nb", "x".repeat(256), 7]) await expectRefusal(sign({ sub }), "identity.claims_invalid");
});

test("refuses nbf and iat in the future, past the skew", async () => {
  const soon = nowMs / 1_000;
  for (const name of ["nbf", "iat"]) {
    expect(await refusal(verifier.verify(await sign({ [name]: soon + 29 })))).toBe("accepted");
    await expectRefusal(sign({ [name]: soon + 31 }), "identity.not_yet_valid");
  }
  await expectRefusal(sign({ nbf: "now" }), "identity.claims_invalid");
});

test("keeps the profiles apart by typ (RFC 9068)", async () => {
  await expectRefusal(sign({}, { typ: "at+jwt" }), "identity.token_malformed");
  await expectRefusal(sign({}, { typ: "logout+jwt" }), "identity.token_malformed");
  expect(await refusal(verifier.verify(await sign({}, { typ: "JWT" })))).toBe("accepted");
  const access = create({ profile: "access-token", azp: ["app"] });
  await expectRefusal(sign({ client_id: "app" }), "identity.token_malformed", access);
  await expectRefusal(sign({ client_id: "app" }, { typ: "JWT" }), "identity.token_malformed", access);
  await expectRefusal(sign({}, { typ: "at+jwt" }), "identity.claims_invalid", access);
  await expectRefusal(sign({ client_id: "other" }, { typ: "at+jwt" }), "identity.audience_mismatch", access);
  expect(await refusal(access.verify(await sign({ client_id: "app" }, { typ: "application/at+jwt" })))).toBe(
    "accepted",
  );
});

test("finds a rotated key, but asks for keys no more than once a cooldown", async () => {
  await verifier.verify(await sign());
  await expectRefusal(sign({}, {}, otherKey), "identity.signature_invalid");
  expect(hits).toHaveLength(2);
  published = [otherKey.jwk];
  nowMs += limits.jwksCooldownMs;
  expect(await refusal(verifier.verify(await sign({}, {}, otherKey)))).toBe("accepted");
  expect(hits).toHaveLength(4);
  await expectRefusal(sign(), "identity.signature_invalid");
  for (let count = 0; count < 20; count++)
    await expectRefusal(sign({}, { kid: `made-up-${count}` }), "identity.signature_invalid");
  expect(hits).toHaveLength(4);
});

test("forgets a withdrawn key when the keys age", async () => {
  const token = await sign({ exp: nowMs / 1_000 + 3_600 });
  await verifier.verify(token);
  published = [otherKey.jwk];
  nowMs += limits.jwksMaxAgeMs;
  await expectRefusal(token, "identity.signature_invalid");
});

test("refuses, rather than trusts old keys, while the issuer is unreachable, and recovers", async () => {
  const token = await sign({ exp: nowMs / 1_000 + 3_600 });
  await verifier.verify(token);
  const { jwks_uri: keysAddress } = discovery;
  discovery.jwks_uri = `${issuer}/broken`;
  nowMs += limits.jwksMaxAgeMs;
  for (let count = 0; count < 5; count++) await expectRefusal(token, "identity.keys_unavailable");
  expect(hits.filter((path) => path === "/broken")).toHaveLength(1);
  discovery.jwks_uri = keysAddress;
  nowMs += limits.identityRetryMs;
  expect(await refusal(verifier.verify(token))).toBe("accepted");
});

test("keeps its keys when a look for a rotated one fails", async () => {
  await verifier.verify(await sign());
  discovery.jwks_uri = `${issuer}/broken`;
  nowMs += limits.jwksCooldownMs;
  await expectRefusal(sign({}, {}, otherKey), "identity.keys_unavailable");
  expect(await refusal(verifier.verify(await sign()))).toBe("accepted");
});

test("refuses a discovery document that is hostile", async () => {
  const hostile: Record<string, unknown>[] = [
    { issuer: `${issuer}/`, jwks_uri: `${issuer}/keys` },
    { jwks_uri: `${issuer}/keys` },
    { issuer },
    { issuer, jwks_uri: "http://198.51.100.7/keys" },
    { issuer, jwks_uri: "file:///etc/passwd" },
    { issuer, jwks_uri: `http://user:pass@127.0.0.1:${server.port}/keys` },
    { issuer, jwks_uri: `${issuer}/moved` },
    { issuer, jwks_uri: `${issuer}/too-large` },
    { issuer, jwks_uri: `${issuer}/compressed` },
    { issuer, jwks_uri: `${issuer}/.well-known/openid-configuration` },
  ];
  for (const document of hostile) {
    discovery = document;
    await expectRefusal(sign(), "identity.keys_unavailable", create());
  }
  discovery = { issuer, jwks_uri: `${issuer}/largest` };
  expect((await create().verify(await sign())).identity.issuer).toBe(issuer);
});

test("refuses when the issuer is down or does not answer in time", async () => {
  const token = await sign();
  const hanging = createVerifier([configure()], {
    now: () => nowMs,
    fetch: (_url, init) =>
      new Promise((_resolve, reject) => {
        expect(init.signal).toBeInstanceOf(AbortSignal);
        reject(new DOMException("timed out", "TimeoutError"));
      }),
  });
  await expectRefusal(token, "identity.keys_unavailable", hanging);
  await server.stop(true);
  await expectRefusal(token, "identity.keys_unavailable");
});

test("gives up an issuer that does not answer in time", async () => {
  using _ = loweredLimits({ identityFetchTimeoutMs: 100 });
  const token = await sign();
  const silent = createVerifier([configure()], {
    now: () => nowMs,
    fetch: (_url, { signal }) =>
      new Promise((_resolve, reject) => signal?.addEventListener("abort", () => reject(signal.reason))),
  });
  const from = performance.now();
  await expectRefusal(token, "identity.keys_unavailable", silent);
  expect(performance.now() - from).toBeWithin(90, 2_000);
});

test("reads keys from jwks_uri without discovery where it is configured", async () => {
  await create({ jwks_uri: `${issuer}/keys` }).verify(await sign());
  expect(hits).toEqual(["/keys"]);
});

test("reads groups by path, also where the claim's own name has dots", async () => {
  const nested = create({ groups_claim: "realm_access.roles" });
  const groupsOf = async (changes: Claims, by: Verifier) => (await by.verify(await sign(changes))).identity.groups;
  expect(await groupsOf({ realm_access: { roles: ["dba"] } }, nested)).toEqual(["dba"]);
  expect(await groupsOf({ realm_access: "x" }, nested)).toEqual([]);
  expect(
    await groupsOf({ "https://x.example/groups": ["a"] }, create({ groups_claim: "https://x.example/groups" })),
  ).toEqual(["a"]);
  expect(await groupsOf({}, create({ groups_claim: "constructor.name" }))).toEqual([]);
  expect(await groupsOf({ groups: "one" }, verifier)).toEqual(["one"]);
});

test("refuses groups that are not names, too many, or left out by reference", async () => {
  const many = Array.from({ length: limits.groupsMax + 1 }, (_, index) => String(index));
  for (const groups of [["a", 1], [["a"]], { a: 1 }, 7, [""], ["a\u0000"], many])
    await expectRefusal(sign({ groups }), "identity.claims_invalid");
  await expectRefusal(sign({ _claim_names: { groups: "src1" } }), "identity.claims_invalid");
  const nested = create({ groups_claim: "realm_access.roles" });
  await expectRefusal(sign({ _claim_names: { realm_access: "src1" } }), "identity.claims_invalid", nested);
});

test("takes a flag or a number for what it spells where it tells agents, and refuses what it cannot compare", async () => {
  const flagged = create({ agents: { claim: "app.robot", values: ["true", "7"] } });
  const kindOf = async (robot: unknown) => (await flagged.verify(await sign({ app: { robot } }))).identity.kind;
  for (const robot of [true, "true", 7, ["x", true]]) expect(await kindOf(robot)).toBe("agent");
  for (const robot of [false, null, "TRUE", 8, [], ["x"]]) expect(await kindOf(robot)).toBe("human");
  const anything = create({ agents: { claim: "robot", values: ["*"] } });
  expect((await anything.verify(await sign({}))).identity.kind).toBe("human");
  expect((await anything.verify(await sign({ robot: "" }))).identity.kind).toBe("agent");
  for (const app of [{ robot: { true: true } }, { robot: [["true"]] }, { robot: [null] }])
    await expectRefusal(sign({ app }), "identity.claims_invalid", flagged);
  for (const name of ["app", "app.robot"])
    await expectRefusal(sign({ _claim_names: { [name]: "src1" } }), "identity.claims_invalid", flagged);
});

test("refuses claims nested too deeply or not Unicode", async () => {
  const nest = (depth: number): unknown => (depth === 0 ? 1 : { in: nest(depth - 1) });
  expect(await refusal(verifier.verify(await sign({ extra: nest(limits.claimDepthMax - 1) })))).toBe("accepted");
  await expectRefusal(sign({ extra: nest(limits.claimDepthMax) }), "identity.claims_invalid");
  await expectRefusal(sign({ extra: "\ud800" }), "identity.claims_invalid");
});

test("tells agents from people by the configured claim", async () => {
  const withAgents = create({ agents: { claim: "azp", values: ["agent-*", "bot"] } });
  const kindOf = async (changes: Claims) => (await withAgents.verify(await sign(changes))).identity.kind;
  expect(await kindOf({ azp: "agent-reporter" })).toBe("agent");
  expect(await kindOf({ azp: "bot" })).toBe("agent");
  expect(await kindOf({ azp: "botany" })).toBe("human");
  expect(await kindOf({ azp: "my-agent-1" })).toBe("human");
  expect(await kindOf({})).toBe("human");
});

test("takes no e-mail that is not text or that the issuer calls unverified", async () => {
  const emailOf = async (changes: Claims) => (await verifier.verify(await sign(changes))).identity.email;
  expect(await emailOf({ email: "a@x.example", email_verified: true })).toBe("a@x.example");
  expect(await emailOf({ email: "a@x.example", email_verified: false })).toBe("");
  expect(await emailOf({ email: "a@x.example", email_verified: "false" })).toBe("");
  expect(await emailOf({ email: ["a@x.example"] })).toBe("");
});

test("no refusal repeats any part of the token", async () => {
  const secret = "s3cr3t-in-a-claim";
  const attempts = [
    sign({ aud: secret }),
    sign({ iss: secret }),
    sign({ azp: [secret] }),
    sign({ groups: [{ secret }] }),
  ];
  for (const attempt of attempts) {
    const token = await attempt;
    const error = (await verifier.verify(token).catch((thrown: unknown) => thrown)) as GatewayError;
    expect(error).toBeInstanceOf(GatewayError);
    const shown = `${error.message} ${error.hint} ${JSON.stringify(error.cause)} ${String(error.cause)}`;
    expect(shown).not.toContain(secret);
    expect(shown).not.toContain(token.slice(0, 20));
  }
});

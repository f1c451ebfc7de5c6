/**
 * The gateway's configuration: one YAML file, checked by zod. An error names file, path, line and what was expected.
 * Secrets are named (`env`, `file`), never written in the file, and are read when they are used.
 */
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, isAbsolute, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { GatewayError } from "./errors.ts";
import { limits } from "./limits.ts";
import { signingAlgorithms } from "./policy/signing-algorithms.ts";
import { parseYamlText, YamlSyntaxError, type YamlText } from "./yaml-text.ts";

const durationForm = 'a duration such as "30s", "15m" or "2h"';
const duration = z
  .string(durationForm)
  .regex(/^[0-9]{1,6}(ms|s|m|h)$/, durationForm)
  .transform(durationToMs);

/** "90s" -> 90000. Units: ms, s, m, h. */
export function durationToMs(text: string): number {
  const match = /^([0-9]{1,6})(ms|s|m|h)$/.exec(text);
  if (match === null) throw new GatewayError("config.invalid", `"${text}" is not a duration such as "15m"`);
  const unitMs = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }[match[2] as "ms" | "s" | "m" | "h"];
  return Number(match[1]) * unitMs;
}

const addressForm = 'an address such as "127.0.0.1:6432"';
const hostPort = z
  .string(addressForm)
  .regex(/^(\[[0-9a-fA-F:]+\]|[^\s:[\]]+):[0-9]{1,5}$/, addressForm)
  .transform((text) => {
    const at = text.lastIndexOf(":");
    return { host: text.slice(0, at).replace(/^\[|\]$/g, ""), port: Number(text.slice(at + 1)) };
  })
  .refine((address) => address.port <= 65_535, "a port from 0 to 65535");

/** Of a store: nothing in it is a secret, so that it may be shown. */
function isPlainServer(text: string): boolean {
  const url = URL.parse(text);
  return url !== null && url.username === "" && url.password === "" && url.search === "";
}

/** A secret by reference; see `readSecret`. */
const secret = z.union([z.strictObject({ env: z.string().min(1) }), z.strictObject({ file: z.string().min(1) })], {
  error: "a reference, { env: NAME } or { file: path }: secrets are not written here",
});
const name = z.string().regex(/^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$/, "lower-case letters, digits, '.', '_' and '-'");
const loopbackHosts = ["localhost", "127.0.0.1", "[::1]"];
const issuerUrl = z.url({ protocol: /^https?$/ }).refine((text) => {
  const url = new URL(text);
  return url.protocol === "https:" || loopbackHosts.includes(url.hostname);
}, "an https:// issuer (http:// is accepted on loopback only)");

const issuer = z.strictObject({
  issuer: issuerUrl,
  audience: z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]).transform((value) => [value].flat()),
  /** Accepted `azp` (authorised party) values, where the token has one; any when not given. */
  azp: z.array(z.string().min(1)).optional(),
  profile: z.enum(["id-token", "access-token"]).default("id-token"),
  algorithms: z
    .array(
      z.enum(["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]),
    )
    .min(1)
    .default(["RS256", "PS256", "ES256", "EdDSA", "Ed25519"]),
  /** A path into the claims, e.g. "groups" or "realm_access.roles". */
  groups_claim: z.string().min(1).default("groups"),
  agents: z.strictObject({ claim: z.string().min(1), values: z.array(z.string().min(1)).min(1) }).optional(),
  clock_skew: duration.default(30_000),
  /** How long an open session may outlive its token. */
  expiry_grace: duration.default(0),
  /** Client id used by `sallyport login`. */
  login_client: z.string().min(1).optional(),
  /** Overrides discovery. */
  jwks_uri: issuerUrl.optional(),
});

const verificationKey = z.strictObject({
  /** A public key or certificate in PEM. */
  key: z.string().min(1),
  /** The one algorithm that this key verifies with: RS256, the curve's own or EdDSA, as the key is, when not given. */
  algorithm: z.enum(signingAlgorithms).optional(),
});

/** `policies.bundle` is a bundle server's address, and no path. */
export const isRemote = (value: string) => /^https?:\/\//i.test(value);
const policies = z.strictObject({
  /** A path, or the https:// address of a bundle server (http:// on loopback only). */
  bundle: z
    .string()
    .min(1)
    .refine((text) => isRemote(text) || !/^[a-z][a-z0-9+.-]*:\/\//i.test(text), "a path, or an https:// address")
    .refine((text) => {
      if (!isRemote(text)) return true;
      const url = URL.parse(text);
      if (url === null || url.username !== "" || url.password !== "") return false;
      return url.protocol === "https:" || loopbackHosts.includes(url.hostname);
    }, "an https:// address without a user (http:// is accepted on loopback only); see `token`"),
  /** This deployment's roles and labels, merged over the bundle's data; a path. */
  data: z.string().min(1).optional(),
  /** Files (bundle and data) are watched, and what changed is taken up when it proved itself; SIGHUP does so at any time. */
  watch: z.boolean().default(true),
  /** How often a bundle server is asked, give or take the share `jitter`; less often while it fails. */
  poll: z
    .strictObject({
      interval: duration.refine((ms) => ms >= 1_000, "at least 1s").default(30_000),
      jitter: z.number().min(0).max(0.5).default(0.1),
    })
    .prefault({}),
  /** Bearer token for the bundle server, read anew at each request. */
  token: secret.optional(),
  /** Certificates (PEM) that the bundle server's must come from, where the system's do not have it. */
  ca: z.string().min(1).optional(),
  /** Folder for the last bundle of a bundle server that was taken up, so that a start does not need the server. */
  keep: z.string().min(1).default("./data/policies"),
  /** Only bundles that are signed (as OPA signs them) by one of these keys are taken up, from files too. */
  verify: z
    .strictObject({
      keys: z
        .record(z.string().min(1).max(100), verificationKey)
        .refine((keys) => Object.keys(keys).length > 0, "at least one key, by its id"),
      /** The scope that the signature must be for. */
      scope: z.string().default(""),
    })
    .optional(),
});

const postgresTarget = z.strictObject({
  name,
  kind: z.literal("postgres"),
  address: hostPort,
  database: z.string().min(1),
  /** Other databases of this target a caller may name as "target/dbname"; none when not given. */
  databases: z.array(z.string().min(1)).default([]),
  tls: z.enum(["disable", "require", "verify-ca", "verify-full"]).default("verify-full"),
  ca: z.string().min(1).optional(),
  /** Name the certificate must bear in verify-full, where it is not the address's host. */
  server_name: z.string().min(1).optional(),
  credential: z.strictObject({ user: z.string().min(1), password: secret.optional() }),
  labels: z.record(z.string(), z.string()).default({}),
});

const schema = z.strictObject({
  name: z
    .string()
    .min(1)
    .max(100)
    .default(() => hostname()),
  listen: z.strictObject({ postgres: hostPort.optional(), http: hostPort.optional() }),
  tls: z.strictObject({ cert: z.string().min(1), key: z.string().min(1) }).optional(),
  postgres: z
    .strictObject({
      /** A server can offer one method only: cleartext password (every client), or SASL OAUTHBEARER (libpq 18). */
      authentication: z.enum(["password", "oauthbearer"]).default("password"),
      /** What OAUTHBEARER tells a client that has no accepted token yet; it has no bearing on which tokens are accepted. */
      oauth: z
        .strictObject({
          /** One of identity.issuers, since the protocol has room for one; the first when not given. */
          issuer: issuerUrl.optional(),
          scope: z
            .string()
            .regex(/^[!#-[\]-~]+( [!#-[\]-~]+)*$/, 'scopes with one space between, such as "openid email"')
            .default("openid email"),
        })
        .prefault({}),
    })
    .prefault({}),
  identity: z.strictObject({ issuers: z.array(issuer).min(1) }),
  store: z
    .strictObject({
      url: z
        .string()
        .regex(/^(file:|libsql:|https?:)/, "a file:, libsql: or http(s): address")
        .refine(
          (text) => !/^(libsql|https?):/.test(text) || isPlainServer(text),
          "a server's address without a user or a query; see `auth_token`",
        )
        .default("file:./data/sallyport.db"),
      auth_token: secret.optional(),
      recording: z
        .strictObject({
          durability: z.enum(["strict", "group"]).default("strict"),
          rows_bytes_per_command: z.int().min(0).max(16_777_216).default(limits.recordedRowBytesPerCommand),
          /** Ed25519 private key (PKCS#8 PEM) that signs seals; made beside a file: store when not given. */
          signing_key: z.string().min(1).optional(),
        })
        .prefault({}),
    })
    .prefault({}),
  policies,
  /** Key of `hash` masks, at least 16 bytes; a random one a start when not given, so hashes are stable only until then. */
  masking: z.strictObject({ hash_key: secret.optional() }).prefault({}),
  shutdown: z.strictObject({ drain: duration.default(limits.drainMs) }).prefault({}),
  targets: z.array(z.discriminatedUnion("kind", [postgresTarget])).min(1),
});

export type Config = z.infer<typeof schema>;
export type IssuerConfig = z.infer<typeof issuer>;
export type PostgresTarget = z.infer<typeof postgresTarget>;
export type PoliciesConfig = Config["policies"];
export type SecretRef = z.infer<typeof secret>;

/** Reads and checks a file. @throws GatewayError config.invalid, its message naming file, line, path and expectation. */
export function loadConfig(file: string): Config {
  const path = resolve(file);
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new GatewayError("config.invalid", `${path}: cannot be read: ${(cause as Error).message}`, { cause });
  }
  return parseConfig(text, path);
}

/** Of the command line, in place of `policies.bundle`: a path is relative to where the gateway was started. */
export function readBundleOption(text: string): string {
  const { success, data, error } = policies.shape.bundle.safeParse(text);
  if (!success) throw new GatewayError("config.invalid", `--bundle: ${error.issues[0]?.message}`);
  return isRemote(data) ? data : resolve(data);
}

function readYaml(text: string, path: string): YamlText {
  try {
    return parseYamlText(text, 20);
  } catch (cause) {
    if (!(cause instanceof YamlSyntaxError)) throw cause;
    throw new GatewayError("config.invalid", `${path}:${cause.line}: ${cause.message}`, { cause });
  }
}

/** @param path used in messages, and the folder that relative paths in the text are relative to. */
export function parseConfig(text: string, path: string): Config {
  const { value, lineOf } = readYaml(text, path);
  const parsed = schema.safeParse(value ?? {});
  if (!parsed.success) {
    const messages = parsed.error.issues.map((issue) => {
      const [unknown] = issue.code === "unrecognized_keys" ? issue.keys : [];
      const line = lineOf(unknown === undefined ? issue.path : [...issue.path, unknown]);
      return `${path}:${line}: ${issue.path.join(".") || "(the file)"}: ${wordsOf(issue)}`;
    });
    throw new GatewayError("config.invalid", messages.join("\n"));
  }
  const config = parsed.data;
  const fail = (keys: readonly PropertyKey[], message: string): never => {
    throw new GatewayError("config.invalid", `${path}:${lineOf(keys)}: ${keys.join(".")}: ${message}`);
  };
  const names = new Map<string, number>();
  config.targets.forEach((target, index) => {
    const other = names.get(target.name);
    if (other !== undefined)
      fail(["targets", index, "name"], `"${target.name}" is already the name of targets.${other}`);
    names.set(target.name, index);
  });
  const issuers = new Set<string>();
  config.identity.issuers.forEach((entry, index) => {
    if (issuers.has(entry.issuer))
      fail(["identity", "issuers", index, "issuer"], "this issuer is already listed; give it a list of audiences");
    issuers.add(entry.issuer);
  });
  const { http, postgres } = config.listen;
  if (!http && !postgres) fail(["listen"], "nothing would be listened on; give it postgres, http or both");
  if (http && postgres && collide(http, postgres))
    fail(["listen", "http"], `port ${http.port} is that of listen.postgres; give each listener its own`);
  const announced = config.postgres.oauth.issuer;
  if (announced !== undefined && !issuers.has(announced))
    fail(["postgres", "oauth", "issuer"], "this issuer is not listed in identity.issuers");
  const from = dirname(path);
  const local = (value: string) => (isAbsolute(value) ? value : resolve(from, value));
  const localSecret = (value: SecretRef): SecretRef => ("file" in value ? { file: local(value.file) } : value);
  const { recording } = config.store;
  const url = parseStoreUrl(config.store.url, local, (message) => fail(["store", "url"], message));
  const { bundle, data, token, ca, keep, verify } = config.policies;
  return {
    ...config,
    ...(config.tls && { tls: { cert: local(config.tls.cert), key: local(config.tls.key) } }),
    store: {
      ...config.store,
      url,
      ...(config.store.auth_token && { auth_token: localSecret(config.store.auth_token) }),
      recording: { ...recording, ...(recording.signing_key && { signing_key: local(recording.signing_key) }) },
    },
    policies: {
      ...config.policies,
      bundle: isRemote(bundle) ? bundle : local(bundle),
      keep: local(keep),
      ...(data && { data: local(data) }),
      ...(token && { token: localSecret(token) }),
      ...(ca && { ca: local(ca) }),
      ...(verify && {
        verify: {
          ...verify,
          keys: Object.fromEntries(
            Object.entries(verify.keys).map(([id, one]) => [id, { ...one, key: local(one.key) }]),
          ),
        },
      }),
    },
    masking: config.masking.hash_key ? { hash_key: localSecret(config.masking.hash_key) } : {},
    targets: config.targets.map((target) => ({
      ...target,
      ...(target.ca && { ca: local(target.ca) }),
      credential: {
        ...target.credential,
        ...(target.credential.password && { password: localSecret(target.credential.password) }),
      },
    })),
  };
}

function wordsOf({ code, message }: z.core.$ZodIssue): string {
  const missing = code === "invalid_type" && /expected (.*), received undefined$/.exec(message);
  return missing ? `is missing; expected ${missing[1]}` : message;
}

type Address = z.infer<typeof hostPort>;

function collide(a: Address, b: Address): boolean {
  const host = ({ host }: Address) => (host === "localhost" ? "127.0.0.1" : host);
  const everywhere = [a, b].some(({ host }) => host === "0.0.0.0" || host === "::");
  return a.port !== 0 && a.port === b.port && (everywhere || host(a) === host(b));
}

/** Of a file: file:<absolute path>. */
function parseStoreUrl(url: string, local: (path: string) => string, fail: (message: string) => never): string {
  if (!url.startsWith("file:")) return url;
  let path = url.slice("file:".length);
  if (path.startsWith("//")) {
    try {
      path = fileURLToPath(url);
    } catch {
      fail("a file:// address names no host: file:///path");
    }
  }
  // The driver would read another path out of it, or none: ?mode=memory keeps nothing.
  if (/[?#%]/.test(local(path))) fail("a path without ?, # and %: nothing but the file is named");
  return `file:${local(path)}`;
}

/** The secret's value, without a trailing newline. @param what names it in the error, e.g. "password of target prod-db". */
export function readSecret(reference: SecretRef, what: string): string {
  if ("env" in reference) {
    const value = process.env[reference.env];
    if (value === undefined || value === "") {
      throw new GatewayError("config.invalid", `${what}: the environment variable ${reference.env} is not set`);
    }
    return value;
  }
  let value: string;
  try {
    value = readFileSync(reference.file, "utf8").replace(/\r?\n$/, "");
  } catch (cause) {
    const why = (cause as Error).message;
    throw new GatewayError("config.invalid", `${what}: ${reference.file} cannot be read: ${why}`, { cause });
  }
  if (value === "") throw new GatewayError("config.invalid", `${what}: ${reference.file} is empty`);
  return value;
}

/**
 * Verifies a bundle signed as OPA signs it: `.signatures.json` holds one JWS, whose payload lists every other file of
 * the bundle with its digest (`signed-digest.ts`). What is not as signed is refused: a file more, less or different.
 */
import { createPublicKey, type KeyObject } from "node:crypto";
import { basename } from "node:path";
import { compactVerify, decodeProtectedHeader } from "jose";
import { z } from "zod";
import { GatewayError } from "../errors.ts";
import { readArchive } from "./archive.ts";
import { signedDigest } from "./signed-digest.ts";
import type { SigningAlgorithm } from "./signing-algorithms.ts";

export const signaturesFile = ".signatures.json";

/** A key verifies with one algorithm only: the header of a signature does not choose. */
export interface VerificationKey {
  /** PEM: a public key or a certificate. */
  readonly pem: string;
  /** RS256, the curve's own or EdDSA, as the key is, when not given. */
  readonly algorithm?: SigningAlgorithm | undefined;
}

/** What a bundle's signature must be; plain, so that it can be posted to another process. */
export interface Verification {
  /** By key id. */
  readonly keys: Readonly<Record<string, VerificationKey>>;
  /** The `scope` that the payload must have; none when it is empty. */
  readonly scope: string;
}

function refused(message: string, cause?: unknown): GatewayError {
  return new GatewayError(
    "policy.signature_invalid",
    `policy bundle: ${message}`,
    cause === undefined ? {} : { cause },
  );
}

const signaturesSchema = z.strictObject({
  signatures: z.array(z.string()),
  plugin: z.literal(["", "_default"]).optional(),
});
const payloadSchema = z.looseObject({
  files: z.array(z.strictObject({ name: z.string(), hash: z.string(), algorithm: z.string() })),
  keyid: z.string().optional(),
  scope: z.string().optional(),
});
type Payload = z.infer<typeof payloadSchema>;

function parse<T>(schema: z.ZodType<T>, bytes: Uint8Array, what: string): T {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw refused(`${what} is not JSON`, cause);
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw refused(`${what} has an unexpected shape`, parsed.error);
  return parsed.data;
}

/** @throws GatewayError config.invalid for what is no public key, or one that its algorithm cannot be used with. */
export function readVerificationKey(id: string, key: VerificationKey): { key: KeyObject; algorithm: SigningAlgorithm } {
  const invalid = (message: string, cause?: unknown) =>
    new GatewayError("config.invalid", `policies.verify: key "${id}" ${message}`, { cause });
  if (/PRIVATE KEY/.test(key.pem)) throw invalid("is a private key; give its public one");
  let parsed: KeyObject;
  try {
    parsed = createPublicKey(key.pem);
  } catch (cause) {
    throw invalid("is not a public key or certificate in PEM", cause);
  }
  const curve = parsed.asymmetricKeyDetails?.namedCurve ?? "";
  const fitting: readonly SigningAlgorithm[] =
    parsed.asymmetricKeyType === "rsa"
      ? ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
      : parsed.asymmetricKeyType === "ed25519"
        ? ["EdDSA"]
        : parsed.asymmetricKeyType === "ec"
          ? (({ prime256v1: ["ES256"], secp384r1: ["ES384"], secp521r1: ["ES512"] } as const)[curve] ?? [])
          : [];
  const algorithm = key.algorithm ?? fitting[0];
  if (algorithm === undefined) throw invalid("is of a kind that is not supported");
  if (!fitting.includes(algorithm)) throw invalid(`cannot be used with ${algorithm}`);
  return { key: parsed, algorithm };
}

/** The key's id comes from the header, or as older versions of OPA have it, from the payload; else the only key. */
function chooseKey(token: string, stated: string | undefined, keys: Verification["keys"]): string {
  let kid: unknown;
  try {
    ({ kid } = decodeProtectedHeader(token));
  } catch (cause) {
    throw refused("its signature has no readable header", cause);
  }
  const ids = new Set([kid, stated].filter((id) => id !== undefined && id !== ""));
  if (ids.size > 1) throw refused("its signature states two key ids");
  const [id] = ids.size === 0 && Object.keys(keys).length === 1 ? Object.keys(keys) : ids;
  if (typeof id !== "string") throw refused("its signature does not say which key it is by");
  if (!Object.hasOwn(keys, id)) throw refused(`it is signed by key "${id.slice(0, 100)}", which is not configured`);
  return id;
}

async function verifyToken(token: string, { keys, scope }: Verification): Promise<{ payload: Payload; keyId: string }> {
  const [, part = ""] = token.split(".");
  // Read before it is verified, for its key id alone.
  const claimed = parse(payloadSchema, Buffer.from(part, "base64url"), "its signature's payload");
  const keyId = chooseKey(token, claimed.keyid, keys);
  const { key, algorithm } = readVerificationKey(keyId, keys[keyId] ?? { pem: "" });
  let verified: Uint8Array;
  try {
    ({ payload: verified } = await compactVerify(token, key, { algorithms: [algorithm] }));
  } catch (cause) {
    throw refused(`its signature is not one by key "${keyId}" with ${algorithm}`, cause);
  }
  const payload = parse(payloadSchema, verified, "its signature's payload");
  if ((payload.scope ?? "") !== scope)
    throw refused(`its signature is for scope "${payload.scope ?? ""}", not "${scope}"`);
  return { payload, keyId };
}

function compare(files: ReadonlyMap<string, Uint8Array>, payload: Payload): void {
  const signed = new Map(payload.files.map((file) => [file.name, file]));
  if (signed.size !== payload.files.length) throw refused("its signature lists a file twice");
  for (const [name, content] of files) {
    const entry = signed.get(name);
    if (entry === undefined) throw refused(`${name} is not covered by its signature`);
    const digest = signedDigest(name, content, entry.algorithm);
    if (digest === undefined) throw refused(`${name} is signed by "${entry.algorithm}", which is not accepted`);
    if (digest !== entry.hash.toLowerCase()) throw refused(`${name} is not the file that was signed`);
    signed.delete(name);
  }
  const [missing] = signed.keys();
  if (missing !== undefined) throw refused(`${missing} was signed and is missing`);
}

/** @returns the id of the key that signed it. Throws `policy.signature_invalid` and `policy.bundle_invalid`. */
export async function verifyBundle(bundle: Uint8Array, verification: Verification): Promise<string> {
  const files = new Map(readArchive(bundle));
  const documents = [...files.keys()].filter((name) => basename(name) === signaturesFile);
  const document = files.get(signaturesFile);
  if (document === undefined) throw refused("it is not signed");
  if (documents.length > 1) throw refused("it holds several signature documents");
  files.delete(signaturesFile);
  const { signatures } = parse(signaturesSchema, document, signaturesFile);
  const [token, ...more] = signatures;
  if (token === undefined || more.length > 0)
    throw refused(`${signaturesFile} holds ${signatures.length} signatures, not one`);
  const { payload, keyId } = await verifyToken(token, verification);
  compare(files, payload);
  return keyId;
}

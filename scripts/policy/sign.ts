/** Signs a bundle as OPA does: every file with its digest, in a JWS, in `.signatures.json`. */
import { createPrivateKey, type KeyObject } from "node:crypto";
import { CompactSign } from "jose";
import { readArchive } from "../../gateway/policy/archive.ts";
import { signaturesFile } from "../../gateway/policy/signature.ts";
import { signedDigest } from "../../gateway/policy/signed-digest.ts";
import { type SigningAlgorithm, signingAlgorithms } from "../../gateway/policy/signing-algorithms.ts";
import { tarball } from "./tarball.ts";

export interface SigningOptions {
  /** PEM: PKCS#8, PKCS#1 or SEC 1. */
  readonly key: string;
  /** RS256, the curve's own or EdDSA, as the key is, when not given. */
  readonly algorithm?: string | undefined;
  /** By which verifiers find their key; "default" when not given, as OPA calls it. */
  readonly keyId?: string | undefined;
  /** Must be what verifiers are configured with. */
  readonly scope?: string | undefined;
}

function algorithmOf(key: KeyObject): SigningAlgorithm | undefined {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  if (type === "rsa") return "RS256";
  if (type === "ed25519") return "EdDSA";
  const curves: Record<string, SigningAlgorithm> = { prime256v1: "ES256", secp384r1: "ES384", secp521r1: "ES512" };
  return curves[details?.namedCurve ?? ""];
}

/** @returns the same bundle with its signature. @throws Error that says what is wrong with key or algorithm */
export async function signBundle(bundle: Uint8Array, options: SigningOptions): Promise<Uint8Array> {
  const key = createPrivateKey(options.key);
  const algorithm = signingAlgorithms.find((name) => name === (options.algorithm ?? algorithmOf(key)));
  if (algorithm === undefined) throw new Error(`the algorithm must be one of ${signingAlgorithms.join(", ")}`);
  const keyId = options.keyId ?? "default";
  const files = [...readArchive(bundle)].filter(([name]) => name !== signaturesFile);
  const payload = {
    files: files.map(([name, content]) => ({
      name,
      hash: signedDigest(name, content, "SHA-256"),
      algorithm: "SHA-256",
    })),
    keyid: keyId,
    ...(options.scope && { scope: options.scope }),
  };
  const token = await new CompactSign(Buffer.from(JSON.stringify(payload)))
    .setProtectedHeader({ alg: algorithm, kid: keyId })
    .sign(key);
  const signature = Buffer.from(JSON.stringify({ signatures: [token] }));
  // OPA looks for the module under the name that the manifest gives it, which starts with a slash.
  const rooted = files.map(([name, content]) => [`/${name}`, Buffer.from(content)] as const);
  return tarball([...rooted, [`/${signaturesFile}`, signature]]);
}

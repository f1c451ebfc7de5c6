/**
 * What the configuration refers to, looked at before anything starts: a secret, certificate, key or store that cannot be
 * used is refused at once, by `--check` too, and not at the first connection that needs it.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { type Config, readSecret } from "./config.ts";
import { GatewayError } from "./errors.ts";
import { hashKeyBytesMin } from "./masking/mask.ts";
import { filePath, requireStorePath } from "./store/file-path.ts";

/** @throws GatewayError config.invalid or store.unavailable, naming key and path */
export function checkReferences(config: Config): void {
  if (config.tls) checkKeyPair(config.tls);
  config.targets.forEach(({ name, ca, credential }, index) => {
    if (ca !== undefined) checkAuthorities(ca, `targets.${index}.ca of ${name}`);
    if (credential.password) readSecret(credential.password, `password of target ${name}`);
  });
  const { token, ca } = config.policies;
  if (token) readSecret(token, "policies.token");
  if (ca !== undefined) checkAuthorities(ca, "policies.ca");
  readHashKey(config);
  const path = filePath(config.store.url);
  if (path !== undefined) requireStorePath(path);
}

/** Undefined where none is configured. @throws GatewayError config.invalid */
export function readHashKey({ masking }: Config): Buffer | undefined {
  if (masking.hash_key === undefined) return undefined;
  const key = Buffer.from(readSecret(masking.hash_key, "masking.hash_key"));
  if (key.length >= hashKeyBytesMin) return key;
  throw invalid(`masking.hash_key: it has ${key.length} bytes; a key has at least ${hashKeyBytesMin}`);
}

const invalid = (message: string, cause?: unknown) => new GatewayError("config.invalid", message, { cause });

function readText(path: string, what: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw invalid(`${what}: ${path} cannot be read: ${(cause as Error).message}`, cause);
  }
}

/** What OpenSSL says of it is for those who know its codes. */
function parsed<T>(what: string, expected: string, parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    throw invalid(`${what} is not ${expected}: ${(cause as Error).message}`, cause);
  }
}

function checkKeyPair(tls: { readonly cert: string; readonly key: string }): void {
  const [cert, key] = [readText(tls.cert, "tls.cert"), readText(tls.key, "tls.key")];
  const certificate = parsed(`tls.cert: ${tls.cert}`, "a certificate in PEM", () => new X509Certificate(cert));
  const privateKey = parsed(`tls.key: ${tls.key}`, "a private key in PEM", () => createPrivateKey(key));
  if (!certificate.checkPrivateKey(privateKey)) throw invalid(`tls.key: ${tls.key} is not the key of ${tls.cert}`);
  parsed(`tls.cert: ${tls.cert}`, "what TLS can be served with", () => createSecureContext({ cert, key }));
}

function checkAuthorities(path: string, what: string): void {
  const text = readText(path, what);
  // An empty one would be taken for none.
  const pem = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;
  const certificates = text.match(pem) ?? [];
  if (certificates.length === 0) throw invalid(`${what}: ${path} has no certificate in PEM`);
  for (const one of certificates) parsed(`${what}: ${path}`, "certificates in PEM", () => new X509Certificate(one));
}

/** The key that seals are signed with: Ed25519, PKCS#8, PEM. */
import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { GatewayError } from "../errors.ts";

/** @returns undefined where there is no file. @throws GatewayError config.invalid for one that is no such key */
export function readSigningKey(path: string): KeyObject | undefined {
  if (!existsSync(path)) return undefined;
  try {
    const key = createPrivateKey(readFileSync(path));
    if (key.asymmetricKeyType === "ed25519") return key;
    throw new Error(`it is of type ${key.asymmetricKeyType}`);
  } catch (cause) {
    const why = (cause as Error).message;
    throw new GatewayError("config.invalid", `the signing key ${path} is no Ed25519 private key in PEM: ${why}`, {
      cause,
    });
  }
}

/** Made where there is none, readable by its owner alone. */
export function obtainSigningKey(path: string): KeyObject {
  const known = readSigningKey(path);
  if (known !== undefined) return known;
  const { privateKey } = generateKeyPairSync("ed25519");
  writeFileSync(path, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600, flag: "wx" });
  return privateKey;
}

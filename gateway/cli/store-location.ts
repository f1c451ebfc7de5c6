/** Where `--store` points: a file, an address of a shared store, or the configuration of the gateway that writes it. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { loadConfig, readSecret } from "../config.ts";
import { keyBeside } from "../store/file-path.ts";
import type { StoreLocation } from "../store/read-only.ts";

export interface NamedStore extends StoreLocation {
  /** A file with the key that signs seals, where there is one. */
  readonly signingKey: string | undefined;
}

/** A shared store's token comes from SALLYPORT_STORE_TOKEN. @throws GatewayError config.invalid */
export function storeLocation(
  text: string,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): NamedStore {
  if (/^(libsql|https?|wss?):/.test(text)) {
    return { url: text, authToken: environment.SALLYPORT_STORE_TOKEN, signingKey: undefined };
  }
  if (/\.ya?ml$/.test(text)) {
    const { url, auth_token, recording } = loadConfig(text).store;
    const authToken = auth_token && readSecret(auth_token, "store.auth_token");
    return { url, authToken, signingKey: recording.signing_key ?? besideFile(url) };
  }
  const path = text.startsWith("file://") ? fileURLToPath(text) : text.replace(/^file:/, "");
  const url = `file:${resolve(path)}`;
  return { url, signingKey: besideFile(url) };
}

function besideFile(url: string): string | undefined {
  const path = keyBeside(url);
  return path !== undefined && existsSync(path) ? path : undefined;
}

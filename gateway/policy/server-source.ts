/**
 * A bundle server: one address that answers a bundle, asked with the ETag of the bundle in force. The latest bundle
 * that was taken up is kept on disk, and stands in where the server cannot be reached.
 */
import { readFile } from "node:fs/promises";
import type { PoliciesConfig } from "../config.ts";
import { readSecret } from "../config.ts";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import { BundleCopy, type KeptBundle } from "./bundle-copy.ts";
import { type PolicyMaterial, readDeploymentData } from "./material.ts";

export interface ServerSettings
  extends Pick<PoliciesConfig, "bundle">,
    Partial<Pick<PoliciesConfig, "data" | "token" | "ca" | "keep">> {}

interface Reading {
  readonly material: PolicyMaterial;
  readonly problem?: unknown;
}

const etagCharactersMax = 1_024;

export function isServer(bundle: string): boolean {
  return /^https?:\/\//i.test(bundle);
}

function unavailable(message: string, cause?: unknown): GatewayError {
  return new GatewayError("policy.unavailable", `bundle server: ${message}`, cause === undefined ? {} : { cause });
}

export class ServerSource {
  readonly files: readonly string[];
  readonly #settings: ServerSettings;
  /** Without its query, which may hold a key. */
  readonly #shown: string;
  readonly #copy: BundleCopy | undefined;
  /** What is in force; its ETag is the one asked with. */
  #accepted: KeptBundle | undefined;
  /** What was read last. */
  #read: KeptBundle | undefined;

  constructor(settings: ServerSettings) {
    this.#settings = settings;
    this.files = settings.data === undefined ? [] : [settings.data];
    const { origin, pathname } = new URL(settings.bundle);
    this.#shown = origin + pathname;
    this.#copy = settings.keep === undefined ? undefined : new BundleCopy(settings.keep, settings.bundle);
  }

  async read(): Promise<Reading> {
    let problem: unknown;
    let found: KeptBundle | undefined;
    try {
      found = await this.#fetch();
    } catch (error) {
      problem = error;
      found = this.#accepted ?? (await this.#copy?.read());
      if (found === undefined) throw error;
    }
    this.#read = found;
    const data = await readDeploymentData(this.#settings.data);
    return {
      material: { bundle: found.bundle, source: this.#shown, ...data },
      ...(problem !== undefined && { problem }),
    };
  }

  async accepted(material: PolicyMaterial): Promise<void> {
    const read = this.#read;
    if (read === undefined || read.bundle !== material.bundle) return;
    const before = this.#accepted;
    this.#accepted = read;
    if (before?.bundle !== read.bundle || before.etag !== read.etag) await this.#copy?.write(read);
  }

  async #fetch(): Promise<KeptBundle> {
    const { bundle: address, token, ca } = this.#settings;
    const accepted = this.#accepted;
    const headers = new Headers({ Accept: "application/gzip, application/octet-stream", "User-Agent": "sallyport" });
    headers.set("Accept-Encoding", "identity");
    if (token !== undefined) headers.set("Authorization", `Bearer ${readSecret(token, "policies.token")}`);
    if (accepted?.etag !== undefined) headers.set("If-None-Match", accepted.etag);
    const signal = AbortSignal.timeout(limits.policyFetchTimeoutMs);
    try {
      const response = await fetch(address, {
        headers,
        signal,
        // A token is for this address only.
        redirect: "manual",
        // Where a server takes the .gz of the name for an encoding, the archive would be unpacked on the way.
        decompress: false,
        ...(ca !== undefined && { tls: { ca: await readFile(ca, "utf8") } }),
      });
      if (response.status === 304 && accepted !== undefined) {
        await response.body?.cancel();
        return accepted;
      }
      if (response.status !== 200) {
        await response.body?.cancel();
        throw unavailable(`${this.#shown} answers ${response.status}`);
      }
      const bundle = await this.#readBody(response);
      const etag = response.headers.get("etag") ?? undefined;
      const sendable = etag !== undefined && etag.length <= etagCharactersMax && /^[\x21-\x7e]+$/.test(etag);
      return { bundle, ...(sendable && { etag }) };
    } catch (cause) {
      if (cause instanceof GatewayError) throw cause;
      throw unavailable(`${this.#shown} cannot be read: ${(cause as Error).message}`, cause);
    }
  }

  async #readBody(response: Response): Promise<Uint8Array> {
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of response.body ?? []) {
      size += chunk.byteLength;
      if (size > limits.bundleBytesMax)
        throw unavailable(`${this.#shown} answers more than ${limits.bundleBytesMax} bytes`);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  }
}

/**
 * A bundle server: one address that answers a bundle, asked with the ETag of the bundle in force. The latest bundle
 * that was taken up is kept on disk, for a start while the server cannot be reached or has no good one.
 */
import { readFile } from "node:fs/promises";
import type { PoliciesConfig, SecretRef } from "../config.ts";
import { readSecret } from "../config.ts";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import { BundleCopy, type KeptBundle } from "./bundle-copy.ts";
import { type PolicyMaterial, readDeploymentData } from "./material.ts";
import type { PolicySource, Reading } from "./source.ts";

export interface ServerSettings
  extends Pick<PoliciesConfig, "bundle">,
    Partial<Pick<PoliciesConfig, "data" | "token" | "ca" | "keep">> {}

const etagCharactersMax = 1_024;

function unavailable(message: string, cause?: unknown): GatewayError {
  return new GatewayError("policy.unavailable", `bundle server: ${message}`, cause === undefined ? {} : { cause });
}

function readToken(reference: SecretRef): string {
  const token = readSecret(reference, "policies.token");
  // An error of `Headers` would repeat it.
  if (!/^[\x21-\x7e]+$/.test(token)) throw unavailable("policies.token has a character that no header may have");
  return token;
}

export class ServerSource implements PolicySource {
  readonly files: readonly string[];
  readonly #settings: ServerSettings;
  /** Without its query, which may hold a key. */
  readonly #shown: string;
  readonly #copy: BundleCopy | undefined;
  /** What is in force; its ETag is the one asked with. */
  #accepted: KeptBundle | undefined;
  /** What was read last, and what is on disk. */
  #read: KeptBundle | undefined;
  #kept: KeptBundle | undefined;

  constructor(settings: ServerSettings) {
    this.#settings = settings;
    this.files = settings.data === undefined ? [] : [settings.data];
    const { origin, pathname } = new URL(settings.bundle);
    this.#shown = origin + pathname;
    this.#copy = settings.keep === undefined ? undefined : new BundleCopy(settings.keep, settings.bundle);
  }

  async read(): Promise<Reading> {
    try {
      this.#read = await this.#fetch();
    } catch (problem) {
      if (this.#accepted === undefined) throw problem;
      // The deployment's data may be other.
      this.#read = this.#accepted;
      return { material: await this.#materialOf(this.#read), problem };
    }
    return { material: await this.#materialOf(this.#read) };
  }

  async readKept(): Promise<PolicyMaterial | undefined> {
    this.#read = this.#kept = await this.#copy?.read();
    return this.#read && this.#materialOf(this.#read);
  }

  async #materialOf(found: KeptBundle): Promise<PolicyMaterial> {
    return { bundle: found.bundle, source: this.#shown, ...(await readDeploymentData(this.#settings.data)) };
  }

  async accepted(material: PolicyMaterial): Promise<void> {
    const read = this.#read;
    if (read === undefined || read.bundle !== material.bundle) return;
    this.#accepted = read;
    if (this.#kept === read) return;
    await this.#copy?.write(read);
    this.#kept = read;
  }

  async #fetch(): Promise<KeptBundle> {
    const { bundle: address, token, ca } = this.#settings;
    const accepted = this.#accepted;
    const headers = new Headers({ Accept: "application/gzip, application/octet-stream", "User-Agent": "sallyport" });
    headers.set("Accept-Encoding", "identity");
    if (token !== undefined) headers.set("Authorization", `Bearer ${readToken(token)}`);
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
        // Whatever the environment says.
        tls: { rejectUnauthorized: true, ...(ca !== undefined && { ca: await readFile(ca, "utf8") }) },
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

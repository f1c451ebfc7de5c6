/**
 * The latest good bundle of one bundle server, on disk: the archive, and beside it the ETag that it came with. It is
 * judged again, signature included, when it is used.
 */
import { createHash } from "node:crypto";
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { readBounded } from "./material.ts";

export interface KeptBundle {
  readonly bundle: Uint8Array;
  readonly etag?: string;
}

const noteSchema = z.object({ digest: z.string(), etag: z.string() });
const digestOf = (content: Uint8Array | string) => createHash("sha256").update(content).digest("hex");

export class BundleCopy {
  readonly #folder: string;
  readonly #archive: string;
  readonly #note: string;

  /** @param address whose bundle it is: another server's is never taken for it. */
  constructor(folder: string, address: string) {
    this.#folder = folder;
    const name = `bundle-${digestOf(address).slice(0, 16)}`;
    this.#archive = join(folder, `${name}.tar.gz`);
    this.#note = join(folder, `${name}.json`);
  }

  /** Undefined where there is none. */
  async read(): Promise<KeptBundle | undefined> {
    try {
      return { bundle: await readBounded(this.#archive), ...(await this.#readEtag()) };
    } catch {
      return undefined;
    }
  }

  /** The bundle without its ETag where the two were not written together. */
  async #readEtag(): Promise<{ etag?: string }> {
    try {
      const note = noteSchema.parse(JSON.parse(await readFile(this.#note, "utf8")));
      return note.digest === digestOf(await readFile(this.#archive)) ? { etag: note.etag } : {};
    } catch {
      return {};
    }
  }

  async write({ bundle, etag }: KeptBundle): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    await replace(this.#archive, bundle);
    if (etag !== undefined) await replace(this.#note, JSON.stringify({ digest: digestOf(bundle), etag }));
  }
}

/** All of it or nothing, even where the machine stops meanwhile. */
async function replace(path: string, content: Uint8Array | string): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    const file = await open(temporary, "w", 0o600);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
}

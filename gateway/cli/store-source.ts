/** Reads a store directly, for the operator at the machine. */
import { ClientError, exitCodes } from "./command.ts";
import type { Recordings } from "./recordings.ts";

/** @throws ClientError: direct reading is not built yet, and saying so beats an empty list. */
export async function openStore(url: string): Promise<Recordings> {
  throw new ClientError(
    exitCodes.failed,
    "internal",
    `--store ${url}: reading a store directly is not supported by this version.`,
    "Leave --store out to read over the gateway's API.",
  );
}

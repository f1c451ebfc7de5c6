/** Verifies recordings aside: what one of a gigabyte takes, no session waits for. */
import { limits } from "../limits.ts";
import type { StoreLocation } from "../store/read-only.ts";
import type { SessionCheck } from "./reader.ts";
import { ReadingThread } from "./reading-thread.ts";

export interface ToVerify {
  readonly session: string;
  /** SPKI, PEM; without it signatures are not looked at. */
  readonly publicKey: string | undefined;
}

export const verificationFailed = "The recording could not be verified.";

export class VerifyThread {
  readonly #thread: ReadingThread<ToVerify, SessionCheck>;

  constructor(store: StoreLocation) {
    const worker = new URL("./verify-worker.ts", import.meta.url);
    this.#thread = new ReadingThread({
      ...{ store, worker },
      ...{ busy: "Enough recordings are being verified.", failed: verificationFailed },
    });
  }

  /** @throws GatewayError api.busy where enough wait, store.unavailable */
  verify(session: string, publicKey: string | undefined): Promise<SessionCheck> {
    return this.#thread.ask({ session, publicKey }, limits.verificationsMax);
  }
}

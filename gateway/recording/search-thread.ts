/** Searches recordings aside. A search has a time; where it ends before all is looked at, the answer says where the next goes on. */
import { limits } from "../limits.ts";
import type { SessionFilter } from "../store/queries.ts";
import type { StoreLocation } from "../store/read-only.ts";
import { ReadingThread } from "./reading-thread.ts";
import type { Found } from "./search.ts";

export interface Sought {
  readonly filter: SessionFilter;
  readonly text: string;
  readonly budgetMs: number;
}

export const searchFailed = "The store could not be searched.";

export class SearchThread {
  readonly #thread: ReadingThread<Sought, Found>;

  constructor(store: StoreLocation) {
    const worker = new URL("./search-worker.ts", import.meta.url);
    this.#thread = new ReadingThread({
      ...{ store, worker },
      ...{ busy: "Enough searches are under way.", failed: searchFailed },
    });
  }

  /** @throws GatewayError api.invalid for a text without a word, api.busy where enough searches wait, store.unavailable */
  search(filter: SessionFilter, text: string): Promise<Found> {
    return this.#thread.ask({ filter, text, budgetMs: limits.searchMsMax }, limits.searchesMax);
  }
}

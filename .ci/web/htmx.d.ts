// What the pages use of vendor/htmx.min.js.
declare const htmx: {
  ajax(method: string, path: string, into?: string | HtmxTarget): Promise<void>;
  process(element: Element): void;
  trigger(element: Element, event: string): void;
};

interface HtmxTarget {
  target: string;
  swap?: string;
  select?: string;
  values?: Record<string, string>;
}

interface HtmxDetail {
  elt: Element;
  target: Element;
  xhr: XMLHttpRequest;
  requestConfig?: { elt: Element; triggeringEvent?: Event };
}

interface DocumentEventMap {
  "htmx:afterOnLoad": CustomEvent<HtmxDetail>;
  "htmx:afterSwap": CustomEvent<HtmxDetail>;
  "htmx:beforeRequest": CustomEvent<HtmxDetail>;
  "htmx:beforeSwap": CustomEvent<HtmxDetail>;
  "htmx:responseError": CustomEvent<HtmxDetail>;
  "htmx:sendError": CustomEvent<HtmxDetail>;
}

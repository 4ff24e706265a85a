// A browser starts no worker from a file on the disk, and the search of the site is one. Where the site is opened from the
// disk, this runs the worker's script in a hidden frame instead. MkDocs' `offline` plugin looks for a script of this name.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.addEventListener("load", () => this.start(frame, url), { once: true });
      document.body.append(frame);
    }

    start(frame, url) {
      const scope = frame.contentWindow;
      scope.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = frame.contentDocument.createElement("script");
      script.src = url;
      script.addEventListener("load", () => {
        this.postMessage = (data) => scope.dispatchEvent(new MessageEvent("message", { data }));
        this.waiting.forEach(this.postMessage);
      });
      frame.contentDocument.body.append(script);
    }

    postMessage(data) {
      this.waiting.push(data);
    }
  };
}

// Shows the chosen picture before it is uploaded. As a data: URL, which the content security policy allows.

const preview = document.querySelector("[data-preview]");

document.querySelector("input[type=file]")?.addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (!file) return;
  const reader = new FileReader();
  reader.onload = () => {
    preview.src = reader.result;
    preview.alt = "The chosen picture";
  };
  reader.readAsDataURL(file);
});

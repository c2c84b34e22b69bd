#version 300 es
precision highp float;
uniform sampler2D uPicture;
uniform vec2 uPanel, uPanelSize;
out vec4 colour;
void main() { colour = vec4(texture(uPicture, (gl_FragCoord.xy - uPanel) / uPanelSize).rgb, 1.0); }
